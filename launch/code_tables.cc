#include "launch/code_tables.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/rng.h"
#include "parallel/coding/search.h"
#include "parallel/coding/simulate.h"
#include "parallel/coding/straggler_model.h"

namespace trireme {
namespace {

constexpr int kDrawnSets = 100;
constexpr int kShownWorkers = 64, kShownRounds = 64, kShownTerms = 6;

// Decodings of what drawn late workers leave, within what the code tolerates.
struct Sample {
  std::vector<double> noise, errors;
  int64_t num_failed = 0;

  void Add(const GradientCode& code, absl::Span<const uint64_t> arrived) {
    const StatusOr<Decoding> decoding = code.Decode(arrived);
    if (!decoding.ok()) {
      ++num_failed;
      return;
    }
    noise.push_back(NoiseAmplification(code, *decoding));
    errors.push_back(decoding->error);
  }
};

// `size` of the workers, each set as likely as every other.
WorkerSet DrawSet(int n, int size, RngKey key, int64_t index) {
  WorkerSet set = EmptySet(n);
  for (int worker = 0; worker < n; ++worker) {
    const double u = UniformAt(key, static_cast<uint64_t>(index) * n + worker);
    if (u * (n - worker) < size) {
      Insert(worker, &set);
      --size;
    }
  }
  return set;
}

bool Has(const WorkerSet& set, int worker) { return set[worker / 64] >> (worker % 64) & 1; }

Sample DrawDecodings(const GradientCode& code) {
  const CodeShape& shape = code.shape();
  const int n = shape.num_workers;
  const RngKey key = MakeRngKey(0, "late workers");
  Sample sample;
  History history(shape);
  StragglerWindow window(shape.tolerates, n);
  for (int round = 0; round < kDrawnSets + shape.delay; ++round) {
    const int most =
        shape.delay == 0 ? shape.tolerates.per_round : std::max(1, shape.tolerates.distinct / 2);
    WorkerSet late = DrawSet(n, most, key, round);
    if (!window.Accepts(late, true)) late = EmptySet(n);
    window.Push(late, true);
    std::vector<std::vector<int>> messages(shape.delay + 1, std::vector<int>(n, -1));
    for (int age = 0; age <= shape.delay; ++age) {
      if (history.IsOpen(round - age)) code.Assign(history, age, absl::MakeSpan(messages[age]));
    }
    for (int age = 0; age <= shape.delay; ++age) {
      for (int worker = 0; worker < n; ++worker) {
        if (Has(late, worker) || messages[age][worker] < 0) continue;
        history.Arrive(round - age, worker, messages[age][worker]);
      }
    }
    if (round >= shape.delay) sample.Add(code, history.arrived(round - shape.delay));
    history.NextRound();
  }
  return sample;
}

double MedianOf(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

std::string ToleranceText(const StragglerModel& model) {
  std::string text;
  if (model.window == 0 || model.per_round > 0) {
    text = absl::StrCat("any ", model.per_round, " stragglers of a round");
  }
  if (model.window == 0) return text;
  return absl::StrCat(text, text.empty() ? "" : "; or ", model.distinct, " distinct in ",
                      model.window, " rounds, none of them late again ", model.burst,
                      " or more rounds later");
}

std::string TaskText(const Task& task) {
  std::vector<std::string> terms;
  for (const PartTerm& term : task.content.parts) {
    if (terms.size() == kShownTerms) {
      terms.push_back(absl::StrCat("... ", task.content.parts.size(), " parts"));
      break;
    }
    terms.push_back(term.weight == 1 ? absl::StrCat("g", term.part)
                                     : absl::StrFormat("%.3g g%d", term.weight, term.part));
  }
  std::string text = absl::StrCat("job ", task.job, ": ", absl::StrJoin(terms, " + "));
  if (task.content.blocks.size() > 1) {
    absl::StrAppend(&text, " in blocks ", absl::StrJoin(task.content.blocks, ", "));
  }
  return text;
}

}  // namespace

std::string CodeText(const GradientCode& code) {
  const CodeShape& shape = code.shape();
  double load = 0;
  for (int worker = 0; shape.delay == 0 && worker < shape.num_workers; ++worker) {
    load += code.LoadOf(worker, 0);
  }
  std::string text = absl::StrFormat(
      "load        %.6g of a job, at most, by a worker in a round\n"
      "redundancy  %.4g times the work of a job\n"
      "tolerance   %s\n"
      "delay       %d rounds\n",
      shape.load, shape.delay == 0 ? load : shape.num_workers * shape.load,
      ToleranceText(shape.tolerates), shape.delay);
  absl::StrAppendFormat(&text, "messages    %d of a worker and job, each of 1/%d of a gradient\n",
                        shape.num_messages, shape.num_blocks);
  absl::StrAppendFormat(
      &text, "parts       %d; of the wanted sizes when a job has a multiple of %d micro-batches\n",
      shape.num_parts(), shape.num_units());
  const Sample sample = DrawDecodings(code);
  if (sample.num_failed > 0) {
    absl::StrAppendFormat(&text, "unstable    %d of %d drawn sets of stragglers do not decode\n",
                          sample.num_failed, kDrawnSets);
  }
  if (!sample.noise.empty()) {
    absl::StrAppendFormat(
        &text, "noise       %.3g times the rounding of messages, %.3g at most, of %d drawn cases\n",
        MedianOf(sample.noise), *std::max_element(sample.noise.begin(), sample.noise.end()),
        sample.noise.size());
  }
  if (!shape.exact && !sample.errors.empty()) {
    absl::StrAppendFormat(
        &text, "error       %.3g squared and relative, %.3g at most: an estimate\n",
        MedianOf(sample.errors), *std::max_element(sample.errors.begin(), sample.errors.end()));
  }
  return text;
}

StatusOr<std::string> AssignmentText(const GradientCode& code, int64_t num_rounds,
                                     const std::vector<std::pair<int64_t, int>>& late) {
  const CodeShape& shape = code.shape();
  if (num_rounds > kShownRounds) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rounds ", num_rounds, ", at most ", kShownRounds));
  }
  std::string text;
  History history(shape);
  for (int64_t round = 0; round < num_rounds; ++round) {
    absl::StrAppend(&text, "round ", round, "\n");
    std::vector<std::vector<Task>> tasks;
    for (int worker = 0; worker < std::min(shape.num_workers, kShownWorkers); ++worker) {
      tasks.push_back(Assignment(code, history, worker));
    }
    for (size_t worker = 0; worker < tasks.size(); ++worker) {
      std::vector<std::string> words;
      const bool is_late = std::find(late.begin(), late.end(),
                                     std::pair(round, static_cast<int>(worker))) != late.end();
      for (const Task& task : tasks[worker]) {
        words.push_back(TaskText(task));
        if (!is_late) history.Arrive(task.job, static_cast<int>(worker), task.message);
      }
      absl::StrAppendFormat(&text, "  %4d  %s%s\n", worker, absl::StrJoin(words, "; "),
                            is_late ? "  (late)" : "");
    }
    if (shape.num_workers > kShownWorkers) {
      absl::StrAppend(&text, "  and ", shape.num_workers - kShownWorkers, " workers more\n");
      return text;  // What the others send, the next rounds depend on.
    }
    const int64_t due = round - shape.delay;
    if (due >= 0) {
      const StatusOr<Decoding> decoding = Decode(code, history, due);
      absl::StrAppend(&text, "  job ", due, decoding.ok() ? " decodes\n" : " is lost: ",
                      decoding.ok() ? "" : absl::StrCat(decoding.status().message(), "\n"));
    }
    history.NextRound();
  }
  return text;
}

namespace {

struct Row {
  std::string scheme;
  std::vector<Candidate> candidates;
};

std::vector<Row> RowsOf(const SimulationTable& table, int n) {
  const int reference = RobustReference(n);
  const StopRule model = {StopKind::kModel, table.mu};
  const StopRule first = {StopKind::kLookAhead, 0};
  const StopRule ahead = {StopKind::kLookAhead, table.mu, reference};
  std::vector<Row> rows = {{"uncoded", {{"uncoded", {}, {}}}},
                           {"uncoded, two jobs a round", {{"uncoded", {}, {}, 2}}}};
  if (!table.code.empty()) {
    for (const StopRule& rule : {StopRule{}, model, first, ahead}) {
      rows.push_back({table.code, {{table.code, table.params, rule}}});
    }
    return rows;
  }
  const auto add = [&](const char* scheme, const char* code, const StopRule& rule) {
    rows.push_back({scheme, CandidatesOf(code, n, table.max_delay, rule)});
  };
  add("gradient coding, cyclic", "cyclic_repetition", model);
  add("gradient coding, cyclic", "cyclic_repetition", first);
  add("fractional repetition", "fractional_repetition", model);
  add("fractional repetition", "fractional_repetition", first);
  add("SR-SGC", "sr_sgc", model);
  add("SR-SGC", "sr_sgc", ahead);
  add("M-SGC", "m_sgc", model);
  add("M-SGC", "m_sgc", ahead);
  return rows;
}

}  // namespace

StatusOr<std::string> SimulationText(const SimulationTable& table) {
  const bool drawn = !table.trace.has_value();
  int64_t num_workers = table.num_workers;
  if (!drawn) {
    if (num_workers == 0) num_workers = table.trace->num_workers;
    if (num_workers != table.trace->num_workers) {
      return absl::InvalidArgumentError(absl::StrCat("n = ", num_workers, ", the trace is of ",
                                                     table.trace->num_workers, " workers"));
    }
  }
  if (num_workers > kMaxCodedWorkers) {
    return absl::InvalidArgumentError(
        absl::StrCat("n = ", num_workers, " workers, at most ", kMaxCodedWorkers));
  }
  const int n = static_cast<int>(num_workers);
  int delay = table.max_delay;
  if (!table.code.empty()) {
    ASSIGN_OR_RETURN(const auto code, MakeGradientCode(table.code, n, table.params));
    delay = code->shape().delay;
  }
  const int64_t num_jobs = table.num_jobs > 0 ? table.num_jobs : table.trace->num_rounds - delay;
  const auto profile_of = [&](int64_t seed) -> StatusOr<DelayProfile> {
    if (!drawn) return *table.trace;
    return DrawDelays(table.delays, n, num_jobs + delay, static_cast<uint64_t>(seed),
                      table.delay_params);
  };
  const int64_t num_seeds = drawn ? table.num_seeds : 1;
  // Parameters are chosen on a draw of their own.
  ASSIGN_OR_RETURN(const DelayProfile probe, profile_of(num_seeds));

  std::string text = absl::StrFormat(
      "%d jobs, %d workers, %s; parameters chosen on %s\n\n%-26s %-16s %-28s %8s %10s %8s %6s "
      "%8s\n",
      num_jobs, n, drawn ? absl::StrCat(table.delays, ", ", num_seeds, " seeds") : "a trace",
      drawn ? "another seed" : "the same rounds", "scheme", "rounds end", "parameters", "load",
      "seconds", "+-", "waits", "uncoded");
  std::vector<std::vector<double>> seconds;
  std::vector<DelayProfile> profiles;
  for (int64_t seed = 0; seed < num_seeds; ++seed) {
    ASSIGN_OR_RETURN(DelayProfile profile, profile_of(seed));
    profiles.push_back(std::move(profile));
  }
  double uncoded = 0;
  for (const Row& row : RowsOf(table, n)) {
    if (row.candidates.empty()) continue;  // One worker has nobody to share with.
    Candidate best = row.candidates[0];
    if (row.candidates.size() > 1) {
      ASSIGN_OR_RETURN(const Ranked ranked, FastestOf(row.candidates, probe, num_jobs));
      best = ranked.candidate;
    }
    ASSIGN_OR_RETURN(const auto code, MakeGradientCode(best.code, n, best.params));
    SimulationOptions options;
    options.rule = best.rule;
    options.num_jobs = num_jobs;
    options.accumulate = best.accumulate;
    options.use_late = table.use_late && best.rule.kind == StopKind::kLookAhead;
    double sum = 0, squares = 0, waits = 0;
    for (const DelayProfile& profile : profiles) {
      ASSIGN_OR_RETURN(const SimulatedRun run, SimulateCode(*code, profile, options));
      sum += run.seconds;
      squares += run.seconds * run.seconds;
      waits += static_cast<double>(run.num_waits);
    }
    const double mean = sum / num_seeds;
    const double variance =
        num_seeds > 1 ? std::max(0.0, (squares - sum * mean) / (num_seeds - 1)) : 0;
    if (uncoded == 0) uncoded = mean;
    std::vector<std::string> params;
    for (const auto& [key, value] : best.params) {
      if (key != "base") params.push_back(absl::StrCat(key, "=", value));
    }
    absl::StrAppendFormat(&text, "%-26s %-16s %-28s %8.4f %10.2f %8.2f %6.0f %7.1f%%\n", row.scheme,
                          best.rule.ToString(), absl::StrJoin(params, " "),
                          code->shape().load * best.accumulate, mean, std::sqrt(variance),
                          waits / num_seeds, 100 * mean / uncoded);
  }
  if (table.code.empty() && probe.num_rounds >= table.max_delay + 2) {
    ASSIGN_OR_RETURN(const Choice choice, ChooseCode(probe, table.max_delay, true));
    absl::StrAppend(&text, "\nauto would take ", choice.why, "\n");
  }
  return text;
}

}  // namespace trireme
