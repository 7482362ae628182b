#include "parallel/coding/straggler_model.h"

#include <algorithm>
#include <bit>

namespace trireme {

int SizeOf(const WorkerSet& set) {
  int size = 0;
  for (const uint64_t word : set) size += std::popcount(word);
  return size;
}

StragglerWindow::StragglerWindow(const StragglerModel& model, int num_workers)
    : model_(model), past_(std::max(model.window - 1, 0), EmptySet(num_workers)) {}

bool StragglerWindow::IsEasy(const WorkerSet& late, bool repeats) const {
  return !repeats && SizeOf(late) <= model_.per_round;
}

bool StragglerWindow::Accepts(const WorkerSet& late, bool repeats) const {
  if (IsEasy(late, repeats)) return true;
  if (model_.window == 0) return false;
  WorkerSet together = late;
  for (int back = 1; back < model_.window && back <= round_; ++back) {
    const WorkerSet& past = past_[(round_ - back) % past_.size()];
    for (size_t i = 0; i < late.size(); ++i) {
      if (back >= model_.burst && (past[i] & late[i]) != 0) return false;
      together[i] |= past[i];
    }
  }
  return SizeOf(together) <= model_.distinct;
}

void StragglerWindow::Push(const WorkerSet& late, bool repeats) {
  if (!past_.empty()) {
    WorkerSet& place = past_[round_ % past_.size()];
    place = late;
    if (IsEasy(late, repeats)) std::fill(place.begin(), place.end(), 0);
  }
  ++round_;
}

}  // namespace trireme
