#include "parallel/coding/search.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace trireme {
namespace {

constexpr int kWindows = 3;           // Windows of sr_sgc: 1 + x burst, x from 1.
constexpr double kWorthWhile = 0.98;  // Of the time without a code.

// The largest s of each number of groups, from many groups to one: s = 0 is left out.
std::vector<int> GroupSizes(int n) {
  std::vector<int> sizes;
  for (int s = 1; s < n; ++s) {
    if (s + 1 == n || n / (s + 2) != n / (s + 1)) sizes.push_back(s);
  }
  return sizes;
}

std::vector<int> UpTo(int last) {
  std::vector<int> all;
  for (int i = 1; i <= last; ++i) all.push_back(i);
  return all;
}

ParamMap Sequential(int burst, int window, int lambda, const StopRule& rule) {
  return {{"burst", absl::StrCat(burst)},
          {"window", absl::StrCat(window)},
          {"lambda", absl::StrCat(lambda)},
          {"base", rule.kind == StopKind::kModel ? "cyclic_repetition" : "fractional_repetition"}};
}

}  // namespace

std::string Candidate::ToString() const {
  std::string text = code;
  for (const auto& [key, value] : params) {
    if (key != "base") absl::StrAppend(&text, " ", key, "=", value);
  }
  if (accumulate > 1) absl::StrAppend(&text, ", ", accumulate, " jobs a round");
  return rule.kind == StopKind::kAll ? text : absl::StrCat(text, ", ", rule.ToString());
}

std::vector<Candidate> CandidatesOf(absl::string_view code, int num_workers, int max_delay,
                                    const StopRule& rule) {
  const int n = num_workers;
  const bool model = rule.kind == StopKind::kModel;
  std::vector<Candidate> candidates;
  const auto add = [&](ParamMap params) {
    candidates.push_back({std::string(code), std::move(params), rule});
  };
  if (code == "fractional_repetition" || code == "cyclic_repetition") {
    const std::vector<int> all = code[0] == 'f' ? GroupSizes(n) : UpTo(n - 1);
    for (const int s : all) add({{"s", absl::StrCat(s)}});
  } else if (code == "sr_sgc") {
    for (int burst = 1; burst <= max_delay; ++burst) {
      if (!model) {  // Only s counts, and lambda = 2 s gives every one.
        for (const int s : GroupSizes(n)) {
          if (2 * s <= n) add(Sequential(burst, burst + 1, 2 * s, rule));
        }
        continue;
      }
      for (int x = 1; x <= kWindows; ++x) {
        for (const int lambda : UpTo(n == 1 ? 0 : n)) {
          add(Sequential(burst, 1 + x * burst, lambda, rule));
        }
      }
    }
  } else if (code == "m_sgc") {
    for (int window = 2; window <= max_delay + 1; ++window) {
      for (int burst = 1; burst < window && window - 2 + burst <= max_delay; ++burst) {
        for (const int lambda : model ? UpTo(n - 1) : GroupSizes(n)) {
          add(Sequential(burst, window, lambda, rule));
        }
        add(Sequential(burst, window, n, rule));
      }
    }
  } else {
    add({});
  }
  return candidates;
}

StatusOr<Ranked> FastestOf(absl::Span<const Candidate> candidates, const DelayProfile& profile,
                           int64_t num_jobs) {
  if (candidates.empty()) return absl::InvalidArgumentError("no code to choose from");
  Ranked best;
  SimulationOptions options;
  options.num_jobs = num_jobs;
  for (const Candidate& candidate : candidates) {
    ASSIGN_OR_RETURN(const std::unique_ptr<GradientCode> code,
                     MakeGradientCode(candidate.code, profile.num_workers, candidate.params));
    options.rule = candidate.rule;
    options.accumulate = candidate.accumulate;
    ASSIGN_OR_RETURN(const SimulatedRun run, SimulateCode(*code, profile, options));
    if (run.seconds >= options.give_up_after) continue;
    best = {candidate, run};
    options.give_up_after = run.seconds;
  }
  if (best.candidate.code.empty()) {
    return absl::InvalidArgumentError("the delays are not finite");
  }
  return best;
}

StatusOr<Choice> ChooseCode(const DelayProfile& probe, int max_delay, bool allow_accumulation) {
  const int64_t num_jobs = probe.num_rounds - max_delay;
  if (num_jobs < 2) {
    return absl::InvalidArgumentError(absl::StrCat("a probe of ", probe.num_rounds,
                                                   " rounds, at least ", max_delay + 2,
                                                   " are needed with delays up to ", max_delay));
  }
  struct Contender {
    const char* name;
    std::vector<Candidate> candidates;
  };
  std::vector<Contender> contenders = {{"uncoded", {{"uncoded", {}, {}}}}};
  if (allow_accumulation) contenders.push_back({"two jobs a round", {{"uncoded", {}, {}, 2}}});
  const size_t num_plain = contenders.size();
  const StopRule first = {StopKind::kLookAhead, 0};
  contenders.push_back({"fractional_repetition",
                        CandidatesOf("fractional_repetition", probe.num_workers, 0, first)});
  for (const char* code : {"sr_sgc", "m_sgc"}) {
    Contender contender = {code, {}};
    for (const double mu : {0.25, 0.5, 1.0}) {
      const StopRule rule = {StopKind::kLookAhead, mu, RobustReference(probe.num_workers)};
      for (Candidate& candidate : CandidatesOf(code, probe.num_workers, max_delay, rule)) {
        contender.candidates.push_back(std::move(candidate));
      }
    }
    contenders.push_back(std::move(contender));
  }

  Choice choice;
  double plain = std::numeric_limits<double>::infinity(), best = plain;
  std::string others;
  for (size_t i = 0; i < contenders.size(); ++i) {
    if (contenders[i].candidates.empty()) continue;  // One worker, or no delay allowed.
    ASSIGN_OR_RETURN(const Ranked fastest, FastestOf(contenders[i].candidates, probe, num_jobs));
    const double seconds = fastest.run.seconds / num_jobs;
    absl::StrAppendFormat(&others, "%s%s %.4g", others.empty() ? "" : ", ", contenders[i].name,
                          seconds);
    if (i < num_plain) plain = std::min(plain, seconds);
    if (seconds < best && (i < num_plain || seconds < kWorthWhile * plain)) {
      best = seconds;
      choice.candidate = fastest.candidate;
    }
  }
  choice.seconds_per_job = best;
  choice.why = absl::StrFormat("%s: %.4g s a job on %d rounds of %d workers (the best of each: %s)",
                               choice.candidate.ToString(), best, probe.num_rounds,
                               probe.num_workers, others);
  return choice;
}

}  // namespace trireme
