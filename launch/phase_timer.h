// Where the time of a run goes.
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

// Of one thread: phases do not overlap.
class PhaseTimer {
 public:
  explicit PhaseTimer(TimeSource clock = &absl::Now) : clock_(std::move(clock)), start_(clock_()) {}

  void Add(Phase phase, absl::Duration spent) { totals_[static_cast<int>(phase)] += spent; }

  // Since the timer was made.
  absl::Duration total() const { return clock_() - start_; }
  absl::Duration total(Phase phase) const;

  // "forward 40.1 s (33 %), backward ...": the phases that took part, longest first.
  std::string Summary() const;

  absl::Time Now() const { return clock_(); }

 private:
  TimeSource clock_;
  absl::Time start_;
  std::array<absl::Duration, kNumPhases> totals_;
};

// Adds the time until the end of the scope.
class PhaseScope {
 public:
  PhaseScope(PhaseTimer& timer, Phase phase) : timer_(timer), phase_(phase), start_(timer.Now()) {}
  ~PhaseScope() { timer_.Add(phase_, timer_.Now() - start_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  PhaseTimer& timer_;
  Phase phase_;
  absl::Time start_;
};

}  // namespace trireme
