// Where the time of a run goes: one phase at a time, so that the phases add up to the whole.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace trireme {

enum class Phase {
  kData,
  kForward,
  kBackward,
  kExchangeWait,  // For other ranks, after backward is done.
  kOptimizer,
  kEvaluation,
  kCheckpoint,
  kOther,  // What no phase claims.
};
inline constexpr int kNumPhases = 8;
const char* PhaseName(Phase phase);

using TimeSource = std::function<absl::Time()>;

// Of one thread. Starts in kOther.
class PhaseTimer {
 public:
  explicit PhaseTimer(TimeSource clock = &absl::Now);

  // Time from now on counts for `phase`; returns the phase that ends.
  Phase Enter(Phase phase);

  // Since the timer was made; in all, and in one phase.
  absl::Duration total() const { return clock_() - start_; }
  absl::Duration total(Phase phase) const;

  // "forward 40.10 s (33 %), backward ...": the phases that took part, longest first.
  std::string Summary() const;

 private:
  TimeSource clock_;
  absl::Time start_;
  absl::Time entered_;
  Phase phase_ = Phase::kOther;
  std::array<absl::Duration, kNumPhases> totals_;
};

// `phase` until the end of the scope, then what was before.
class PhaseScope {
 public:
  PhaseScope(PhaseTimer& timer, Phase phase) : timer_(timer), before_(timer.Enter(phase)) {}
  ~PhaseScope() { timer_.Enter(before_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  PhaseTimer& timer_;
  Phase before_;
};

}  // namespace trireme
