// Gradient codes: how fast sums of parts, the simulator and the search of parameters are, on one
// core.
//   build-release/tests/bench/coding_bench [REPEATS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/time/clock.h"

#include "core/base/log.h"
#include "parallel/coding/search.h"
#include "parallel/coding/weighted_sum.h"

namespace trireme::bench {
namespace {

template <typename Fn>
double BestSeconds(int repeats, const Fn& fn) {
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const absl::Time begin = absl::Now();
    fn();
    best = std::min(best, absl::ToDoubleSeconds(absl::Now() - begin));
  }
  return best;
}

void SimulateMSgc(int repeats) {
  constexpr int kWorkers = 256, kJobs = 1000;
  const auto profile = DrawDelays("serverless", kWorkers, kJobs + 4, 1);
  CHECK_OK(profile.status());
  std::printf("M-SGC, %d workers, %d rounds:\n", kWorkers, kJobs);
  for (const StopRule& rule : {StopRule{StopKind::kModel, 1}, StopRule{StopKind::kLookAhead, 1}}) {
    for (const auto& [burst, window, lambda] : {std::tuple(1, 2, 27), std::tuple(1, 4, 4)}) {
      const auto code = MakeGradientCode("m_sgc", kWorkers,
                                         {{"burst", std::to_string(burst)},
                                          {"window", std::to_string(window)},
                                          {"lambda", std::to_string(lambda)},
                                          {"base", "cyclic_repetition"}});
      CHECK_OK(code.status());
      SimulationOptions options;
      options.rule = rule;
      options.num_jobs = kJobs;
      double simulated = 0;
      const double seconds = BestSeconds(
          repeats, [&] { simulated = SimulateCode(**code, *profile, options)->seconds; });
      std::printf("  burst %d window %d lambda %2d, %-16s %6.1f ms  (%.1f s simulated)\n", burst,
                  window, lambda, rule.ToString().c_str(), 1e3 * seconds, simulated);
    }
  }
}

void SearchGrid(int repeats) {
  constexpr int kWorkers = 256, kJobs = 80, kMaxDelay = 3;
  const auto profile = DrawDelays("serverless", kWorkers, kJobs + kMaxDelay, 1);
  CHECK_OK(profile.status());
  for (const StopKind kind : {StopKind::kModel, StopKind::kLookAhead}) {
    const StopRule rule = {kind, 1};
    std::vector<Candidate> all;
    for (const char* name : {"cyclic_repetition", "fractional_repetition", "sr_sgc", "m_sgc"}) {
      for (Candidate& candidate : CandidatesOf(name, kWorkers, kMaxDelay, rule)) {
        all.push_back(std::move(candidate));
      }
    }
    Ranked best;
    const double seconds = BestSeconds(repeats, [&] { best = *FastestOf(all, *profile, kJobs); });
    std::printf("search, %zu codes, %d jobs, delay up to %d, %s: %.2f s\n  %s: %.1f s\n",
                all.size(), kJobs, kMaxDelay, rule.ToString().c_str(), seconds,
                best.candidate.ToString().c_str(), best.run.seconds);
  }
}

// Against the same bytes read and written with one pass of memcpy: parts read once, the sum
// written.
void SumParts(int repeats) {
  constexpr int64_t kSize = int64_t{4} << 20;  // 16 MiB a part: none stays in a cache.
  std::printf("weighted sums of parts of %lld f32:\n", static_cast<long long>(kSize));
  for (const int num_parts : {2, 3, 4, 8}) {
    std::vector<std::vector<float>> parts(num_parts, std::vector<float>(kSize, 0.5f));
    std::vector<float> out(kSize);
    std::vector<WeightedPart> terms;
    for (int p = 0; p < num_parts; ++p) terms.push_back({0.75 + p, parts[p].data()});
    double sum = 1e9, copy = 1e9;
    for (int i = 0; i < 2 * repeats + 1; ++i) {  // In turns.
      sum = std::min(sum, BestSeconds(1, [&] { WeightedSum(terms, kSize, out.data()); }));
      copy = std::min(copy, BestSeconds(1, [&] {
                        std::memcpy(out.data(), parts[i % num_parts].data(), 4 * kSize);
                      }));
    }
    // memcpy moves two arrays.
    const double bandwidth = 2 * 4e-9 * kSize / copy, moved = 4e-9 * kSize * (num_parts + 1);
    std::printf("  %d parts: %5.2f ms, %5.1f GB/s; memcpy %5.1f GB/s: %.2f times its time\n",
                num_parts, 1e3 * sum, moved / sum, bandwidth, sum * bandwidth / moved);
  }
}

}  // namespace
}  // namespace trireme::bench

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::max(1, std::atoi(argv[1])) : 5;
  trireme::bench::SumParts(repeats);
  trireme::bench::SimulateMSgc(repeats);
  trireme::bench::SearchGrid(std::min(repeats, 2));
}
