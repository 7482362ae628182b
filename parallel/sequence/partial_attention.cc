#include "parallel/sequence/partial_attention.h"

#include <limits>

#include "core/device/kernel.h"
#include "core/ops/attention.h"

namespace trireme {

PartialAttention::PartialAttention(const Tensor& q, int64_t value_width, double scale)
    : q_(q.Contiguous()),
      scale_(scale),
      out_(Tensor::Zeros(q.device(), {q.dim(0), q.dim(1), value_width}, AccumulationType(q.dtype()),
                         MemoryKind::kActivations, "attention")),
      lse_(Tensor::Full(q.device(), {q.dim(0), q.dim(1)}, out_.dtype(),
                        -std::numeric_limits<double>::infinity(), MemoryKind::kActivations,
                        "attention lse")) {}

void PartialAttention::Add(const KvBlock& keys, const KeyRanges& ranges) {
  if (ranges.none) return;
  Launch(q_.device(), &KernelTable::Attention,
         AttentionArgs{q_.view(), keys.k.view(), keys.v.view(), ranges.begin.view(),
                       ranges.end.view(), out_.view(), lse_.view(), scale_, /*resume=*/true});
}

Tensor PartialAttention::Output() const { return InType(out_, q_.dtype()); }

PartialAttentionBackward::PartialAttentionBackward(const Tensor& q, const Tensor& y,
                                                   const Tensor& lse, const Tensor& dy,
                                                   double scale)
    : q_(q.Contiguous()),
      dy_(dy.Contiguous()),
      lse_(lse),
      scale_(scale),
      delta_(Tensor::Empty(q.device(), lse.shape(), lse.dtype(), MemoryKind::kWorkspace,
                           "attention delta")),
      dq_(Tensor::Zeros(q.device(), q.shape(), lse.dtype(), MemoryKind::kActivations,
                        "attention dq")) {
  Launch(q.device(), &KernelTable::AttentionDelta,
         AttentionDeltaArgs{y.view(), dy_.view(), delta_.view(), scale});
}

void PartialAttentionBackward::Add(const KvBlock& keys, const KeyRanges& ranges,
                                   const KvBlock& gradients) {
  if (ranges.none) return;
  Launch(q_.device(), &KernelTable::AttentionBackward,
         AttentionBackwardArgs{q_.view(), keys.k.view(), keys.v.view(), ranges.begin.view(),
                               ranges.end.view(), lse_.view(), delta_.view(), dy_.view(),
                               dq_.view(), gradients.k.view(), gradients.v.view(), scale_,
                               /*accumulate=*/true});
}

Tensor PartialAttentionBackward::dq() const { return InType(dq_, q_.dtype()); }

Tensor InType(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : x.CopyTo(dtype); }

}  // namespace trireme
