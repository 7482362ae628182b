#include "core/ops/recurrence_checks.h"

#include <algorithm>
#include <vector>

#include "core/base/log.h"

namespace trireme {
namespace {

void CheckRuns(absl::Span<const TokenRun> runs, int64_t n, const char* op) {
  std::vector<TokenRun> ordered;
  for (const TokenRun& run : runs) {
    CHECK(0 <= run.begin && run.begin <= run.end && run.end <= n)
        << "run [" << run.begin << ", " << run.end << ") of " << n << " tokens [" << op << "]";
    if (run.begin < run.end) ordered.push_back(run);
  }
  std::sort(ordered.begin(), ordered.end(),
            [](const TokenRun& a, const TokenRun& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < ordered.size(); ++i) {
    CHECK_LE(ordered[i - 1].end, ordered[i].begin) << "runs overlap [" << op << "]";
  }
}

}  // namespace

void CheckRecurrence(const RecurrenceInputs& in, absl::Span<const TokenRun> runs,
                     const Tensor& initial_state) {
  constexpr const char* kOp = "linear_recurrence";
  CHECK(in.q.rank() == 3 && in.k.rank() == 3 && in.v.rank() == 3 && in.q.shape() == in.k.shape() &&
        in.q.dim(0) == in.v.dim(0) && in.q.dim(2) > 0 && in.v.dim(2) > 0)
      << "q " << in.q.shape() << " k " << in.k.shape() << " v " << in.v.shape() << " [" << kOp
      << "]";
  const int64_t n = in.q.dim(0), g = in.q.dim(1), width = in.q.dim(2), h = in.v.dim(1);
  CHECK(g > 0 && h % g == 0) << h << " heads over " << g << " key heads [" << kOp << "]";
  const DType dtype = in.q.dtype(), acc = AccumulationType(dtype);
  CHECK(in.k.dtype() == dtype && in.v.dtype() == dtype)
      << DTypeName(dtype) << " " << DTypeName(in.k.dtype()) << " " << DTypeName(in.v.dtype())
      << " [" << kOp << "]";
  if (in.log_decay.defined()) {
    const Shape& shape = in.log_decay.shape();
    CHECK((shape == Shape({h}) || shape == Shape({n, h}) || shape == Shape({n, h, width})) &&
          in.log_decay.dtype() == acc)
        << "log_decay " << DTypeName(in.log_decay.dtype()) << shape << " of q " << in.q.shape()
        << " [" << kOp << "]";
  }
  const bool delta = in.rule == StateRule::kDelta, low_rank = in.rule == StateRule::kLowRank;
  CHECK(in.beta.defined() == delta) << "beta and the rule [" << kOp << "]";
  CHECK(in.a.defined() == low_rank && in.b.defined() == low_rank)
      << "a, b and the rule [" << kOp << "]";
  if (delta) {
    CHECK(in.beta.shape() == Shape({n, h}) && in.beta.dtype() == dtype)
        << "beta " << DTypeName(in.beta.dtype()) << in.beta.shape() << " [" << kOp << "]";
  }
  if (low_rank) {
    for (const Tensor& x : {in.a, in.b}) {
      CHECK(x.shape() == in.q.shape() && x.dtype() == dtype)
          << DTypeName(x.dtype()) << x.shape() << " beside q " << in.q.shape() << " [" << kOp
          << "]";
    }
  }
  CheckRuns(runs, n, kOp);
  if (initial_state.defined()) {
    const Shape want = {static_cast<int64_t>(runs.size()), h, width, in.v.dim(2)};
    CHECK(initial_state.shape() == want && initial_state.dtype() == acc)
        << "initial state " << DTypeName(initial_state.dtype()) << initial_state.shape() << ", not "
        << want << " [" << kOp << "]";
  }
}

void CheckShortConv(const Tensor& x, const Tensor& weight, const Tensor& bias,
                    absl::Span<const TokenRun> runs, const Tensor& history) {
  constexpr const char* kOp = "short_conv";
  CHECK(x.rank() == 2 && weight.rank() == 2 && weight.dim(0) == x.dim(1) && weight.dim(1) > 0 &&
        weight.dtype() == x.dtype())
      << "x " << DTypeName(x.dtype()) << x.shape() << " weight " << DTypeName(weight.dtype())
      << weight.shape() << " [" << kOp << "]";
  const int64_t c = x.dim(1), w = weight.dim(1);
  CHECK(!bias.defined() || (bias.shape() == Shape({c}) && bias.dtype() == x.dtype()))
      << "bias " << bias.shape() << " of " << x.shape() << " [" << kOp << "]";
  CheckRuns(runs, x.dim(0), kOp);
  if (history.defined()) {
    const Shape want = {static_cast<int64_t>(runs.size()), w - 1, c};
    CHECK(history.shape() == want && history.dtype() == x.dtype())
        << "history " << DTypeName(history.dtype()) << history.shape() << ", not " << want << " ["
        << kOp << "]";
  }
}

}  // namespace trireme
