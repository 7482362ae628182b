#include "parallel/coding/stragglers.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

namespace trireme {

StatusOr<StragglerEstimate> EstimateStragglers(absl::Span<const double> times, int num_workers,
                                               double mu, int reference) {
  if (num_workers < 1 || times.empty() || times.size() % num_workers != 0) {
    return absl::InvalidArgumentError(absl::StrCat(times.size(), " times of ", num_workers,
                                                   " workers are no whole number of rounds"));
  }
  const int64_t num_rounds = static_cast<int64_t>(times.size()) / num_workers;
  StragglerEstimate estimate;
  estimate.late_by_worker.resize(num_workers);
  std::vector<char> late(num_workers), before(num_workers);
  int64_t num_late = 0, num_bursts = 0, was_fast = 0, was_late = 0, entered = 0, left = 0;
  std::vector<double> sorted;
  for (int64_t round = 0; round < num_rounds; ++round) {
    const absl::Span<const double> now = times.subspan(round * num_workers, num_workers);
    sorted.assign(now.begin(), now.end());
    const auto nth = sorted.begin() + std::clamp(reference, 1, num_workers) - 1;
    std::nth_element(sorted.begin(), nth, sorted.end());
    for (int worker = 0; worker < num_workers; ++worker) {
      late[worker] = now[worker] > (1 + mu) * *nth;
      num_late += late[worker];
      num_bursts += late[worker] && !before[worker];
      estimate.late_by_worker[worker] += double(late[worker]) / num_rounds;
      if (round == 0) continue;
      (before[worker] ? was_late : was_fast) += 1;
      entered += late[worker] && !before[worker];
      left += before[worker] && !late[worker];
    }
    before = late;
  }
  estimate.late = double(num_late) / times.size();
  estimate.enter = (entered + 0.5) / (was_fast + 1);
  estimate.leave = (left + 0.5) / (was_late + 1);
  estimate.burst = num_bursts == 0 ? 0 : double(num_late) / num_bursts;
  return estimate;
}

std::vector<double> Quantiles(absl::Span<const double> times, absl::Span<const double> of) {
  std::vector<double> sorted(times.begin(), times.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> values;
  for (const double part : of) {
    if (sorted.empty()) {
      values.push_back(std::numeric_limits<double>::quiet_NaN());
      continue;
    }
    const double place = part * (sorted.size() - 1);
    const size_t below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    values.push_back(sorted[below] + (place - below) * (sorted[above] - sorted[below]));
  }
  return values;
}

}  // namespace trireme
