// Multiplexed (M-SGC): in each round every worker does a small task of each of the W - 1 + B last
// jobs. Of a job it has W - 1 parts alone, done in its first W - 1 rounds; then, for B rounds, it
// makes up for those of them that have not arrived, or else sends its message of an (n, lambda)
// code of that round's group of shared parts. In slot k = 0 .. W - 2 + B, of job r - k in round r:
//   k < W - 1    part k of its own
//   k >= W - 1   the lowest of its own that is missing, else the coded message of group k - (W - 1)
// All tasks are of one size. T = W - 2 + B, and with base codes of load (lambda + 1) / n
//   load = (lambda + 1)(W - 1 + B) / (n (B + (W - 1)(lambda + 1))),   (W - 1 + B) / (n (W - 1))
// the latter for lambda = n, where nothing is coded: workers retry what they missed, and where they
// missed nothing have no more to do than without a code.
// Every pattern decodes with at most lambda distinct stragglers in W rounds, none of them late
// again B rounds later or more in that window. A worker sends W - 1 + B messages in a round.
//
// Krishnan, Ebrahimi, Khisti, "Sequential gradient coding" (ICLR 2023), section 3.3.
#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"

#include "parallel/coding/group_code.h"

namespace trireme {
namespace {

class Multiplexed : public GradientCode {
 public:
  // `base` codes the groups; null without any.
  Multiplexed(CodeShape shape, int num_own, std::unique_ptr<GradientCode> base)
      : GradientCode(std::move(shape)), num_own_(num_own), base_(std::move(base)) {}

  void Assign(const History& history, int age, absl::Span<int> messages) const override {
    if (age < num_own_) {
      std::fill(messages.begin(), messages.end(), age);
      return;
    }
    // The coded message of group g is number num_own + g, which is the slot's.
    const int otherwise = base_ != nullptr ? age : -1;
    const absl::Span<const uint64_t> arrived = history.arrived(history.round() - age);
    for (size_t worker = 0; worker < arrived.size(); ++worker) {
      const uint64_t missing = ~arrived[worker] & OwnMask();
      messages[worker] = missing != 0 ? std::countr_zero(missing) : otherwise;
    }
  }

  Message MessageOf(int worker, int message) const override {
    if (message < num_own_) return {{{worker * num_own_ + message, 1.0}}};
    Message content = base_->MessageOf(worker, 0);
    for (PartTerm& term : content.parts) term.part += FirstPart(message);
    return content;
  }

  double LoadOf(int, int) const override { return shape().load / (shape().delay + 1); }

  bool Decodes(absl::Span<const uint64_t> arrived) const override {
    for (const uint64_t mask : arrived) {
      if (~mask & OwnMask()) return false;
    }
    std::vector<uint64_t> of_group(arrived.size());
    for (int message = num_own_; message < shape().num_messages; ++message) {
      for (size_t worker = 0; worker < arrived.size(); ++worker) {
        of_group[worker] = arrived[worker] >> message & 1;
      }
      if (!base_->Decodes(of_group)) return false;
    }
    return true;
  }

  StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const override {
    Decoding decoding;
    for (size_t worker = 0; worker < arrived.size(); ++worker) {
      const uint64_t missing = ~arrived[worker] & OwnMask();
      if (missing != 0) {
        return absl::FailedPreconditionError(absl::StrCat("m_sgc: part ", std::countr_zero(missing),
                                                          " of worker ", worker,
                                                          " alone has not arrived"));
      }
      for (int message = 0; message < num_own_; ++message) {
        decoding.terms.push_back({static_cast<int>(worker), message, 0, 1.0});
      }
    }
    std::vector<uint64_t> of_group(arrived.size());
    for (int message = num_own_; message < shape().num_messages; ++message) {
      for (size_t worker = 0; worker < arrived.size(); ++worker) {
        of_group[worker] = arrived[worker] >> message & 1;
      }
      StatusOr<Decoding> group = base_->Decode(of_group);
      if (!group.ok()) {
        return Annotate(group.status(), absl::StrCat("m_sgc: group ", message - num_own_));
      }
      for (const DecodeTerm& term : group->terms) {
        decoding.terms.push_back({term.worker, message, 0, term.weight});
      }
    }
    return decoding;
  }

 private:
  uint64_t OwnMask() const { return (uint64_t{1} << num_own_) - 1; }
  int FirstPart(int message) const {
    return shape().num_workers * num_own_ + (message - num_own_) * base_->shape().num_parts();
  }

  const int num_own_;  // W - 1.
  const std::unique_ptr<GradientCode> base_;
};

}  // namespace

StatusOr<std::unique_ptr<GradientCode>> MakeMSgc(int num_workers, const Params& params) {
  const int n = num_workers;
  const int burst = static_cast<int>(params.Int("burst"));
  const int window = static_cast<int>(params.Int("window"));
  const int64_t lambda = params.Int("lambda");
  const auto refused = [&](const auto&... why) {
    return absl::InvalidArgumentError(absl::StrCat("m_sgc: n = ", n, ", burst = ", burst,
                                                   ", window = ", window, ", lambda = ", lambda,
                                                   ": ", why...));
  };
  if (lambda > n) return refused("lambda must be at most n");
  if (burst >= window) return refused("burst must be less than window");
  const int num_own = window - 1;
  CodeShape shape;
  shape.num_workers = n;
  shape.delay = window - 2 + burst;
  shape.tolerates = {0, burst, window, static_cast<int>(lambda)};
  if (lambda == n) {
    shape.num_messages = num_own;
    shape.load = double(shape.delay + 1) / (double(n) * num_own);
    shape.part_units.assign(static_cast<size_t>(n) * num_own, 1);
    return std::make_unique<Multiplexed>(std::move(shape), num_own, nullptr);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<GradientCode> base,
                   MakeGradientCode(params.String("base"), n, {{"s", absl::StrCat(lambda)}}));
  // A part of one's own is as large as all the shared ones that go into a coded message.
  const int num_shared = base->shape().num_parts();
  const int own_units = static_cast<int>(base->shape().load * num_shared + 0.5);
  shape.num_messages = num_own + burst;
  shape.part_units.assign(static_cast<size_t>(n) * num_own, own_units);
  shape.part_units.resize(shape.part_units.size() + static_cast<size_t>(burst) * num_shared, 1);
  shape.load = double(shape.num_messages) * own_units / shape.num_units();
  return std::make_unique<Multiplexed>(std::move(shape), num_own, std::move(base));
}

}  // namespace trireme
