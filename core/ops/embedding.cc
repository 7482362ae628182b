// Embedding: rows of a table. When the table is a leaf its gradient is a weight closure, which adds
// rows straight into the sink.
#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/indexing.h"
#include "core/ops/ops.h"

namespace trireme {

Tensor Embedding(const Tensor& ids, const Tensor& table) {
  return Embedding(ids, table, {0, table.dim(0)});
}

Tensor Embedding(const Tensor& ids, const Tensor& table, const ClassRange& rows) {
  CHECK(ids.rank() == 1 && (ids.dtype() == DType::kI32 || ids.dtype() == DType::kI64))
      << DTypeName(ids.dtype()) << ids.shape() << " ids [embedding]";
  CHECK_EQ(table.rank(), 2) << "[embedding]";
  const Tensor ids64 = To(ids, DType::kI64).Contiguous();
  const Tensor y = Tensor::Empty(table.device(), {ids.dim(0), table.dim(1)}, table.dtype(),
                                 MemoryKind::kActivations, "embedding");
  Launch(table.device(), &KernelTable::Embedding,
         EmbeddingArgs{ids64.view(), table.Contiguous().view(), y.view(), rows.first, rows.count});

  const auto add_rows = [ids64, first = rows.first](const Tensor& dy, const Tensor& dtable,
                                                    bool fresh) {
    Launch(
        dy.device(), &KernelTable::EmbeddingBackward,
        EmbeddingBackwardArgs{ids64.view(), dy.Contiguous().view(), dtable.view(), first, fresh});
  };
  if (table.is_leaf()) {
    return Record(
        "embedding", {table}, y, [](absl::Span<const Tensor>) -> Grads { return {Tensor()}; },
        [add_rows, leaf = table](absl::Span<const Tensor> grads, GradientSink& sink) {
          const GradientSink::Slot slot = sink.Open(leaf);
          if (slot.buffer.defined()) add_rows(grads[0], slot.buffer, slot.fresh);
        });
  }
  return Record("embedding", {table}, y,
                [add_rows, shape = table.shape()](absl::Span<const Tensor> grads) -> Grads {
                  const Tensor& dy = grads[0];
                  const Tensor dtable =
                      Tensor::Empty(dy.device(), shape, AccumulationType(dy.dtype()),
                                    MemoryKind::kActivations, "embedding dtable");
                  add_rows(dy, dtable, /*fresh=*/true);
                  return {To(dtable, dy.dtype())};
                });
}

}  // namespace trireme
