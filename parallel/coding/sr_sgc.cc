// Selective repeat (SR-SGC): every worker sends its message of an (n, s) code of the round's job;
// when more than s were late with job j, as many of them as are too many repeat theirs in round
// j + B instead of the job of that round. With (W - 1) / B = x whole,
//   s = ceil(B lambda / (W - 1 + B)) = ceil(lambda / (x + 1)),   T = B,   load (s + 1) / n
// Every pattern decodes with at most lambda distinct stragglers in W rounds, none of them late
// again B rounds later or more in that window; and every one with at most s in each round.
//
// Krishnan, Ebrahimi, Khisti, "Sequential gradient coding" (ICLR 2023), section 3.2.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "parallel/coding/group_code.h"

namespace trireme {
namespace {

class SelectiveRepeat : public GradientCode {
 public:
  SelectiveRepeat(CodeShape shape, std::unique_ptr<GradientCode> base)
      : GradientCode(std::move(shape)), base_(std::move(base)) {}

  void Assign(const History& history, int age, absl::Span<int> messages) const override {
    std::fill(messages.begin(), messages.end(), age == 0 ? 0 : -1);
    const int64_t old = history.round() - shape().delay;
    if ((age != 0 && age != shape().delay) || !history.IsOpen(old)) return;
    const absl::Span<const uint64_t> arrived = history.arrived(old);
    if (base_->Decodes(arrived)) return;
    int num_repeats = -shape().tolerates.per_round;
    for (const uint64_t mask : arrived) num_repeats += !(mask & 1);
    for (int worker = 0; num_repeats > 0; ++worker) {
      if (arrived[worker] & 1) continue;
      messages[worker] = age == 0 ? -1 : 0;
      --num_repeats;
    }
  }

  Message MessageOf(int worker, int message) const override {
    return base_->MessageOf(worker, message);
  }
  double LoadOf(int worker, int message) const override { return base_->LoadOf(worker, message); }
  bool Decodes(absl::Span<const uint64_t> arrived) const override {
    return base_->Decodes(arrived);
  }
  StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const override {
    StatusOr<Decoding> decoding = base_->Decode(arrived);
    if (!decoding.ok()) return Annotate(decoding.status(), "sr_sgc");
    return decoding;
  }

 private:
  const std::unique_ptr<GradientCode> base_;
};

}  // namespace

StatusOr<std::unique_ptr<GradientCode>> MakeSrSgc(int num_workers, const Params& params) {
  const int burst = static_cast<int>(params.Int("burst"));
  const int window = static_cast<int>(params.Int("window"));
  const int64_t lambda = params.Int("lambda");
  const auto refused = [&](const auto&... why) {
    return absl::InvalidArgumentError(absl::StrCat("sr_sgc: n = ", num_workers, ", burst = ", burst,
                                                   ", window = ", window, ", lambda = ", lambda,
                                                   ": ", why...));
  };
  if (lambda > num_workers) return refused("lambda must be at most n");
  if (window <= burst || (window - 1) % burst != 0) {
    return refused("window - 1 must be a multiple of burst");
  }
  const int64_t s = (burst * lambda + window - 2 + burst) / (window - 1 + burst);
  if (s >= num_workers) return refused("takes s = ", s, ", which must be less than n");
  ASSIGN_OR_RETURN(std::unique_ptr<GradientCode> base,
                   MakeGradientCode(params.String("base"), num_workers, {{"s", absl::StrCat(s)}}));
  CodeShape shape = base->shape();
  shape.delay = burst;
  shape.tolerates.burst = burst;
  shape.tolerates.window = window;
  shape.tolerates.distinct = static_cast<int>(lambda);
  return std::make_unique<SelectiveRepeat>(std::move(shape), std::move(base));
}

}  // namespace trireme
