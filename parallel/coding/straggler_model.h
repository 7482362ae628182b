// Whether the late workers of the last rounds are what a code is made for.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "parallel/coding/gradient_code.h"

namespace trireme {

// A set of workers: bit w mod 64 of word w / 64.
using WorkerSet = std::vector<uint64_t>;

inline WorkerSet EmptySet(int num_workers) { return WorkerSet((num_workers + 63) / 64); }
inline void Insert(int worker, WorkerSet* set) {
  (*set)[worker / 64] |= uint64_t{1} << (worker % 64);
}
int SizeOf(const WorkerSet& set);

// The sets that were accepted in the last rounds, and whether one more conforms.
class StragglerWindow {
 public:
  StragglerWindow(const StragglerModel& model, int num_workers);

  // Whether the pattern so far and `late` in this round stay within the model. A round with at most
  // per_round stragglers and nothing repeated (`repeats` is false) needs no more than that.
  bool Accepts(const WorkerSet& late, bool repeats) const;
  // The round ends with these stragglers.
  void Push(const WorkerSet& late, bool repeats);

 private:
  bool IsEasy(const WorkerSet& late, bool repeats) const;

  const StragglerModel model_;
  std::vector<WorkerSet> past_;  // The last window - 1 rounds, empty sets for easy ones.
  int64_t round_ = 0;
};

}  // namespace trireme
