#include "parallel/ops/collective_ops.h"

#include <memory>
#include <vector>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/base/share.h"

namespace trireme {
namespace {

Share RowShare(int64_t n, Communicator* group) {
  return group == nullptr ? Share{0, n} : ShareOf(n, group->rank(), group->size());
}

// The elements of each rank's rows.
std::vector<int64_t> RowCounts(int64_t n, int64_t row_elements, const Communicator& group) {
  std::vector<int64_t> counts;
  for (int rank = 0; rank < group.size(); ++rank) {
    counts.push_back(ShareOf(n, rank, group.size()).size() * row_elements);
  }
  return counts;
}

int64_t RowElements(const Tensor& x) {
  int64_t elements = 1;
  for (int i = 1; i < x.rank(); ++i) elements *= x.dim(i);
  return elements;
}

PendingTensor Pending(Tensor tensor, std::unique_ptr<Work> work) {
  return {std::move(tensor), std::shared_ptr<Work>(std::move(work))};
}

// A gradient that others may hold, to be reduced in place.
Tensor Own(const Tensor& grad) { return grad.CopyTo(grad.dtype()); }

}  // namespace

const Tensor& PendingTensor::Wait() const {
  if (work != nullptr) work->Join(tensor.device().compute());
  return tensor;
}

PendingTensor StartAllReduce(const Tensor& x, Communicator* group, const char* purpose) {
  if (group == nullptr) return {x.Detach(), nullptr};
  CHECK(x.is_contiguous()) << "[" << purpose << "]";
  return Pending(x.Detach(), group->AllReduce(x.Detach(), {.purpose = purpose}));
}

PendingTensor StartReduceScatterRows(const Tensor& x, Communicator* group, const char* purpose) {
  if (group == nullptr) return {x.Detach(), nullptr};
  const int64_t n = x.dim(0);
  const Tensor mine = Tensor::Empty(x.device(), x.shape().WithDim(0, RowShare(n, group).size()),
                                    x.dtype(), MemoryKind::kActivations, purpose);
  const std::vector<int64_t> counts = RowCounts(n, RowElements(x), *group);
  return Pending(mine, group->ReduceScatter(x.Detach().Contiguous(), mine,
                                            {.purpose = purpose, .counts = counts}));
}

PendingTensor StartAllGatherRows(const Tensor& x, int64_t n, Communicator* group,
                                 const char* purpose) {
  if (group == nullptr) return {x.Detach(), nullptr};
  CHECK_EQ(x.dim(0), RowShare(n, group).size()) << "rows of " << n << " [" << purpose << "]";
  const Tensor whole = Tensor::Empty(x.device(), x.shape().WithDim(0, n), x.dtype(),
                                     MemoryKind::kActivations, purpose);
  const std::vector<int64_t> counts = RowCounts(n, RowElements(x), *group);
  return Pending(whole, group->AllGather(x.Detach().Contiguous(), whole,
                                         {.purpose = purpose, .counts = counts}));
}

Tensor RowsOf(const Tensor& x, Communicator* group) {
  const Share share = RowShare(x.dim(0), group);
  return x.Detach().AsStrided(x.shape().WithDim(0, share.size()), x.strides(),
                              share.first * x.strides()[0]);
}

Tensor ReplicatedToCopied(const Tensor& x, Communicator* group, const char* purpose) {
  if (group == nullptr) return x;
  return Record("replicated_to_copied", {x}, x.Detach(),
                [=](absl::Span<const Tensor> grads) -> Grads {
                  return {StartAllReduce(Own(grads[0]), group, purpose).Wait()};
                });
}

Tensor PartialToReplicated(const Tensor& x, Communicator* group, const char* purpose) {
  if (group == nullptr) return x;
  const Tensor sum = StartAllReduce(x, group, purpose).Wait();
  return Record("partial_to_replicated", {x}, sum,
                [](absl::Span<const Tensor> grads) -> Grads { return {grads[0]}; });
}

Tensor PartialToRowShard(const Tensor& x, Communicator* group, const char* purpose) {
  if (group == nullptr) return x;
  const Tensor mine = StartReduceScatterRows(x, group, purpose).Wait();
  return Record("partial_to_row_shard", {x}, mine,
                [=, n = x.dim(0)](absl::Span<const Tensor> grads) -> Grads {
                  return {StartAllGatherRows(grads[0], n, group, purpose).Wait()};
                });
}

Tensor RowShardToCopied(const Tensor& x, int64_t n, Communicator* group, const char* purpose) {
  if (group == nullptr) return x;
  const Tensor whole = StartAllGatherRows(x, n, group, purpose).Wait();
  return Record("row_shard_to_copied", {x}, whole, [=](absl::Span<const Tensor> grads) -> Grads {
    return {StartReduceScatterRows(grads[0], group, purpose).Wait()};
  });
}

Tensor RowShardToReplicated(const Tensor& x, int64_t n, Communicator* group, const char* purpose) {
  if (group == nullptr) return x;
  const Tensor whole = StartAllGatherRows(x, n, group, purpose).Wait();
  return Record("row_shard_to_replicated", {x}, whole,
                [=](absl::Span<const Tensor> grads) -> Grads { return {RowsOf(grads[0], group)}; });
}

Tensor ReplicatedToRowShard(const Tensor& x, Communicator* group, const char* purpose) {
  if (group == nullptr) return x;
  return Record("replicated_to_row_shard", {x}, RowsOf(x, group),
                [=, n = x.dim(0)](absl::Span<const Tensor> grads) -> Grads {
                  return {StartAllGatherRows(grads[0], n, group, purpose).Wait()};
                });
}

}  // namespace trireme
