#include "parallel/sequence/unmasked_attention.h"

#include <memory>
#include <utility>
#include <vector>

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/device/kernel.h"
#include "core/ops/gemm.h"
#include "core/ops/layout.h"
#include "core/ops/matmul.h"
#include "parallel/sequence/slot_states.h"

namespace trireme {
namespace {

void Product(const Tensor& a, const Tensor& b, const Tensor& c, double alpha) {
  Launch(c.device(), &KernelTable::Gemm, GemmArgs{a.view(), b.view(), c.view(), alpha, 0, {}});
}

Tensor InAccumulationType(const Tensor& x) {
  const DType dtype = AccumulationType(x.dtype());
  return x.dtype() == dtype ? x.Contiguous().Detach() : x.CopyTo(dtype);
}

// Legend: g key heads, r = h / g heads that read each, t tokens of a run.
class UnmaskedCall {
 public:
  UnmaskedCall(const Tensor& q, const Tensor& k, const Tensor& v, double scale, RecurrencePlan plan,
               const AffineScan* scan)
      : q_(InAccumulationType(q)),
        k_(InAccumulationType(k)),
        v_(InAccumulationType(v)),
        g_(q.dim(1)),
        r_(v.dim(1) / q.dim(1)),
        scale_(scale),
        dtype_(v.dtype()),
        plan_(std::move(plan)),
        scan_(scan) {}

  Tensor Forward() {
    sums_ = DocumentSums(RunSums(k_, v_, 1));
    const Tensor out = Empty(v_.shape());
    for (size_t i = 0; i < plan_.runs.size(); ++i) {
      Product(Rows(q_, i), SumOf(sums_, i), Rows(out, i), scale_);
    }
    return InType(out);
  }

  Grads Backward(const Tensor& grad) const {
    const Tensor dout = InAccumulationType(grad);
    const Tensor dsums = DocumentSums(RunSums(q_, dout, scale_));
    const int64_t n = v_.dim(0), h = v_.dim(1), key = q_.dim(2);
    const Tensor dq = Empty({n, h, key}), dk = Empty({n, h, key}), dv = Empty(v_.shape());
    for (size_t i = 0; i < plan_.runs.size(); ++i) {
      Product(Rows(dout, i), TransposeLast(SumOf(sums_, i)), Rows(dq, i), scale_);
      Product(Rows(v_, i), TransposeLast(SumOf(dsums, i)), Rows(dk, i), 1);
      Product(Rows(k_, i), SumOf(dsums, i), Rows(dv, i), 1);
    }
    return {InType(SumOverReaders(dq)), InType(SumOverReaders(dk)), InType(dv)};
  }

 private:
  Tensor Empty(const Shape& shape) const {
    return Tensor::Empty(v_.device(), shape, v_.dtype(), MemoryKind::kActivations, "unmasked");
  }
  Tensor InType(const Tensor& x) const { return x.dtype() == dtype_ ? x : x.CopyTo(dtype_); }

  // Of run i, x [n, g or h, w] as matrices [g, r, t, w].
  Tensor Rows(const Tensor& x, size_t i) const {
    const TokenRun& rows = plan_.runs[i].rows;
    const int64_t w = x.dim(2), row = x.dim(1) * w;
    const bool shared = x.dim(1) == g_ && r_ > 1;
    return x.AsStrided({g_, r_, rows.end - rows.begin, w},
                       {shared ? w : r_ * w, shared ? 0 : w, row, 1}, rows.begin * row);
  }
  // sums [p, h, K, V] -> [g, r, K, V]
  Tensor SumOf(const Tensor& sums, size_t i) const {
    const Tensor of_run = RowOf(sums, static_cast<int64_t>(i));
    return of_run.WithShape({g_, r_, of_run.dim(1), of_run.dim(2)});
  }
  // [n, h, K] -> [n, g, K]
  Tensor SumOverReaders(const Tensor& x) const {
    if (r_ == 1) return x;
    const int64_t n = x.dim(0), key = x.dim(2);
    return SumTo(x.WithShape({n, g_, r_, key}), {n, g_, 1, key}).WithShape({n, g_, key});
  }

  // alpha sum of x_t y_t^T over the tokens of each run: [p, h, K, V].
  Tensor RunSums(const Tensor& x, const Tensor& y, double alpha) const {
    const Tensor sums =
        Empty({static_cast<int64_t>(plan_.runs.size()), v_.dim(1), q_.dim(2), v_.dim(2)});
    for (size_t i = 0; i < plan_.runs.size(); ++i) {
      Product(TransposeLast(Rows(x, i)), Rows(y, i), SumOf(sums, i), alpha);
    }
    return sums;
  }

  // From sums over runs to sums over their documents, here and elsewhere.
  Tensor DocumentSums(const Tensor& sums) const {
    if (scan_ == nullptr) return sums;
    using Run = RecurrencePlan::Run;
    const SlotStates slots(plan_, scan_->axis().rank(), Shape(sums.shape().dims().subspan(1)));
    const auto start = [&](SlotStates::Which which, ScanDirection direction) {
      std::vector<AffineMap> maps;
      const std::vector<Tensor> states = slots.FromRuns(sums, which);
      for (size_t i = 0; i < states.size(); ++i) {
        maps.push_back(
            {TransitionKind::kIdentity, {}, states[i], plan_.resets[slots.own_slots()[i]]});
      }
      return scan_->Start({plan_.owners, plan_.resets, {}}, std::move(maps), Tensor(), direction);
    };
    const auto earlier = start(&Run::leaves, ScanDirection::kForward);
    const auto later = start(&Run::entered, ScanDirection::kReverse);
    const Tensor all = sums.CopyTo(sums.dtype());
    slots.AddToRuns(earlier->Join().entering, &Run::entered, all);
    slots.AddToRuns(later->Join().entering, &Run::leaves, all);
    return all;
  }

  const Tensor q_, k_, v_;
  const int64_t g_, r_;
  const double scale_;
  const DType dtype_;
  const RecurrencePlan plan_;
  const AffineScan* const scan_;
  Tensor sums_;  // [p, h, K, V]
};

}  // namespace

Tensor UnmaskedAttention(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                         const RecurrencePlan& plan, const AffineScan* scan) {
  CHECK(q.rank() == 3 && q.shape() == k.shape() && v.rank() == 3 && v.dim(0) == q.dim(0) &&
        q.dim(1) > 0 && v.dim(1) % q.dim(1) == 0)
      << "q " << q.shape() << " k " << k.shape() << " v " << v.shape() << " [unmasked_attention]";
  CHECK(plan.runs.empty() ? v.dim(0) == 0 : plan.runs.back().rows.end == v.dim(0))
      << "rows of " << v.shape() << " in runs [unmasked_attention]";
  const auto call = std::make_shared<UnmaskedCall>(q, k, v, scale, plan, scan);
  return Record("unmasked_attention", {q, k, v}, call->Forward(),
                [=](absl::Span<const Tensor> grads) -> Grads { return call->Backward(grads[0]); });
}

}  // namespace trireme
