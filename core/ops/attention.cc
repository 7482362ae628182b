// Exact attention over key ranges, and its definition in plain ops.
#include "core/ops/attention.h"

#include <vector>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/ops.h"

namespace trireme {
namespace {

void CheckShapes(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& ranges) {
  CHECK(q.rank() == 3 && k.rank() == 3 && v.rank() == 3 && q.dim(2) == k.dim(2) &&
        k.dim(0) == v.dim(0) && k.dim(1) == v.dim(1) && q.dim(2) > 0 && v.dim(2) > 0)
      << "q " << q.shape() << " k " << k.shape() << " v " << v.shape() << " [attention]";
  CHECK(k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0)
      << q.dim(1) << " heads over " << k.dim(1) << " key-value heads [attention]";
  CHECK(q.dtype() == k.dtype() && k.dtype() == v.dtype())
      << DTypeName(q.dtype()) << " " << DTypeName(k.dtype()) << " " << DTypeName(v.dtype())
      << " [attention]";
  for (const Tensor& bound : {ranges.begin, ranges.end}) {
    CHECK(bound.shape() == Shape({q.dim(0)}) && bound.dtype() == DType::kI32)
        << "key ranges " << DTypeName(bound.dtype()) << bound.shape() << " [attention]";
  }
}

// Rows must lie apart and be dense; token and head strides are free.
Tensor WithDenseRows(const Tensor& x) {
  const bool dense =
      x.strides()[2] == 1 && x.strides()[1] >= x.dim(2) && x.strides()[0] >= x.dim(2);
  return dense ? x.Detach() : x.CopyTo(x.dtype());
}

}  // namespace

Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& ranges,
                 double scale) {
  CheckShapes(q, k, v, ranges);
  const Tensor q_rows = WithDenseRows(q), k_rows = WithDenseRows(k), v_rows = WithDenseRows(v);
  const Tensor begin = ranges.begin.Contiguous(), end = ranges.end.Contiguous();
  Tensor out = Tensor::Empty(q.device(), {q.dim(0), q.dim(1), v.dim(2)}, q.dtype(),
                             MemoryKind::kActivations, "attention");
  AttentionArgs args{
      q_rows.view(), k_rows.view(), v_rows.view(), begin.view(), end.view(), out.view(), {}, scale};
  if (!NeedsGrad({q, k, v})) {
    Launch(q.device(), &KernelTable::Attention, args);
    return out;
  }
  const Tensor lse = Tensor::Empty(q.device(), {q.dim(0), q.dim(1)}, AccumulationType(q.dtype()),
                                   MemoryKind::kActivations, "attention lse");
  args.lse = lse.view();
  Launch(q.device(), &KernelTable::Attention, args);
  return Record(
      "attention", {q, k, v}, out,
      [=, saved = out.Detach()](absl::Span<const Tensor> grads) -> Grads {
        const Tensor dout = WithDenseRows(grads[0]);
        const auto like = [](const Tensor& x, const char* label) {
          return Tensor::Empty(x.device(), x.shape(), x.dtype(), MemoryKind::kActivations, label);
        };
        const Tensor dq = like(q_rows, "attention dq"), dk = like(k_rows, "attention dk");
        const Tensor dv = like(v_rows, "attention dv");
        const Tensor delta = Tensor::Empty(dout.device(), lse.shape(), lse.dtype(),
                                           MemoryKind::kWorkspace, "attention delta");
        Launch(dout.device(), &KernelTable::AttentionDelta,
               AttentionDeltaArgs{saved.view(), dout.view(), delta.view(), scale});
        Launch(dout.device(), &KernelTable::AttentionBackward,
               AttentionBackwardArgs{q_rows.view(), k_rows.view(), v_rows.view(), begin.view(),
                                     end.view(), lse.view(), delta.view(), dout.view(), dq.view(),
                                     dk.view(), dv.view(), scale});
        return {dq, dk, dv};
      });
}

Tensor AttentionReference(const Tensor& q, const Tensor& k, const Tensor& v,
                          const KeyRanges& ranges, double scale) {
  CheckShapes(q, k, v, ranges);
  const int64_t n = q.dim(0), m = k.dim(0), h = q.dim(1), g = k.dim(1);
  const std::vector<double> begin = ranges.begin.ToVector(), end = ranges.end.ToVector();
  std::vector<uint8_t> seen(n * m);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < m; ++j) seen[i * m + j] = begin[i] <= j && j < end[i];
  }
  const Tensor mask = Tensor::FromHost<uint8_t>(q.device(), {1, n, m}, seen);
  // [tokens, g, width] -> [h, tokens, width], each head repeated for the queries that read it.
  const auto per_query_head = [&](const Tensor& x) {
    const Tensor repeated = Broadcast(Reshape(x, {m, g, 1, x.dim(2)}), {m, g, h / g, x.dim(2)});
    return Transpose(Reshape(repeated, {m, h, x.dim(2)}), 0, 1);
  };
  const Tensor scores_hnm =
      Mul(MatMul(Transpose(q, 0, 1), per_query_head(k), false, /*transpose_b=*/true), scale);
  const Tensor low = Tensor::Full(q.device(), {1, 1, 1}, q.dtype(), -1e30);
  const Tensor zero = Tensor::Zeros(q.device(), {1, 1, 1}, q.dtype());
  const Tensor p_hnm = Softmax(Where(mask, scores_hnm, low));
  // Again, since the softmax of a query with no keys is uniform.
  return Transpose(MatMul(Where(mask, p_hnm, zero), per_query_head(v)), 0, 1);
}

}  // namespace trireme
