#include "parallel/layers/vocabulary.h"

#include "core/autograd/node.h"
#include "core/base/share.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

ClassRange RowsOfWhole(const Parameter& weight) {
  return {weight.spec.local.begin[0], weight.spec.global[0]};
}

Tensor Column(const Tensor& x, int64_t column) {
  return x.AsStrided({x.dim(0)}, {x.strides()[0]}, column * x.strides()[1]);
}

// From the maxima, sums of exponentials and label logits of parts of the classes to those of all.
void MergeClasses(const Tensor& labels, const Tensor& losses, const Tensor& norms,
                  Communicator& group) {
  const NoGrad no_grad;
  const int64_t n = labels.dim(0);
  const Tensor my_max = Column(norms, 0).CopyTo(norms.dtype()), max = my_max.CopyTo(norms.dtype());
  Queue& queue = norms.device().compute();
  group.AllReduce(max, {.purpose = "vocabulary maxima", .op = ReduceOp::kMax})->Join(queue);

  const Tensor sums = Tensor::Empty(norms.device(), {2, n}, norms.dtype(), MemoryKind::kWorkspace,
                                    "vocabulary sums");
  const Tensor exponentials = sums.View1D(0, n), label_logits = sums.View1D(n, n);
  exponentials.CopyFrom(Exp(Add(Sub(my_max, max), Column(norms, 1))));
  label_logits.CopyFrom(losses);
  group.AllReduce(sums, {.purpose = "vocabulary sums"})->Join(queue);

  const Tensor log_sum = Log(exponentials);
  Column(norms, 0).CopyFrom(max);
  Column(norms, 1).CopyFrom(log_sum);
  const Tensor counted =
      Less(Tensor::Full(labels.device(), {1}, labels.dtype(), kIgnoredLabel), labels);
  losses.CopyFrom(Where(counted, Sub(log_sum, Sub(label_logits, max)),
                        Tensor::Zeros(losses.device(), {1}, losses.dtype())));
}

Tensor Enter(const TensorAxis& axis, const Tensor& stream, int64_t n) {
  return axis.sharded_stream ? RowShardToCopied(stream, n, axis.group, "head rows")
                             : ReplicatedToCopied(stream, axis.group, "head gradients");
}

}  // namespace

Tensor VocabularyEmbedding(const TensorAxis& axis, const Tensor& tokens, const Parameter& table) {
  return axis.ToStream(Embedding(tokens, table.working, RowsOfWhole(table)), "embedding");
}

Tensor VocabularyCrossEntropy(const TensorAxis& axis, const Tensor& stream, const Parameter& head,
                              const Tensor& labels) {
  const auto merge = [&axis](const Tensor& labels, const Tensor& losses, const Tensor& norms) {
    if (axis.size > 1) MergeClasses(labels, losses, norms, *axis.group);
  };
  return LinearCrossEntropy(Enter(axis, stream, labels.dim(0)), head.working, labels,
                            RowsOfWhole(head), merge, VocabularyChunk(axis, head));
}

int64_t VocabularyChunk(const TensorAxis& axis, const Parameter& head) {
  return LogitChunkTokens(ShareOf(head.spec.global[0], 0, axis.size).size());
}

Tensor VocabularyLogits(const TensorAxis& axis, const Tensor& stream, int64_t n,
                        const Parameter& head) {
  const NoGrad no_grad;
  const Tensor mine = Linear(Enter(axis, stream, n), head.working);
  if (axis.group == nullptr) return mine;
  // Rows of the transpose are gathered: they are the vocabulary.
  const Tensor whole = StartAllGatherRows(Transpose(mine, 0, 1).Contiguous(), head.spec.global[0],
                                          axis.group, "logits")
                           .Wait();
  return Transpose(whole, 0, 1).Contiguous();
}

}  // namespace trireme
