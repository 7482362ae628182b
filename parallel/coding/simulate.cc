#include "parallel/coding/simulate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "parallel/coding/straggler_model.h"

namespace trireme {
namespace {

// What a worker sends at a moment of a round: what it was given in this round, or the late results
// of an earlier one.
struct Arrival {
  double time;
  int worker;
  bool late;
};

class CodeSimulator {
 public:
  CodeSimulator(const GradientCode& code, const DelayProfile& profile,
                const SimulationOptions& options, int64_t num_jobs)
      : code_(code),
        profile_(profile),
        options_(options),
        n_(code.shape().num_workers),
        num_messages_(code.shape().num_messages),
        num_slots_(code.shape().delay + 1),
        history_(code.shape(), num_jobs),
        trial_(history_),
        foresight_(code),
        window_(code.shape().tolerates, n_),
        given_(num_slots_ * n_),
        overdue_(options.use_late ? num_slots_ * n_ : 0),
        busy_(n_),
        loads_(n_ * num_messages_) {
    for (int worker = 0; worker < n_; ++worker) {
      for (int message = 0; message < num_messages_; ++message) {
        loads_[worker * num_messages_ + message] = code.LoadOf(worker, message);
      }
    }
  }

  SimulatedRun Run(int64_t num_rounds, double last_job) {
    SimulatedRun run;
    for (int64_t round = 0; round < num_rounds && run.seconds <= options_.give_up_after; ++round) {
      ++run.num_rounds;
      // The last of accumulated jobs may be made of fewer.
      const double scale = round + 1 == num_rounds && code_.shape().delay == 0
                               ? last_job
                               : static_cast<double>(options_.accumulate);
      run.mean_load += Begin(round, scale);
      End(&run);
      const int64_t due = round - code_.shape().delay;
      run.num_lost += history_.IsOpen(due) && !code_.Decodes(history_.arrived(due));
      history_.NextRound();
    }
    run.mean_late /= run.num_rounds;
    run.mean_load /= run.num_rounds;
    return run;
  }

 private:
  absl::Span<int> Given(int age) { return absl::MakeSpan(given_).subspan(age * n_, n_); }

  // Gives everybody its tasks and finds when they arrive; returns the mean load.
  double Begin(int64_t round, double scale) {
    load_.assign(n_, 0);
    has_tasks_.assign(n_, 0);
    repeats_ = false;
    for (int age = 0; age < num_slots_; ++age) {
      const absl::Span<int> given = Given(age);
      if (!history_.IsOpen(round - age)) {
        std::fill(given.begin(), given.end(), -1);
        continue;
      }
      code_.Assign(history_, age, given);
      for (int worker = 0; worker < n_; ++worker) {
        if (given[worker] < 0) continue;
        load_[worker] += loads_[worker * num_messages_ + given[worker]];
        has_tasks_[worker] = 1;
        repeats_ |= age > 0;
      }
    }
    arrivals_.clear();
    const double* fixed = profile_.fixed.data() + round * n_;
    const double* per_load = profile_.per_load.data() + round * n_;
    double sum = 0;
    for (int worker = 0; worker < n_; ++worker) {
      if (busy_[worker] > 0) arrivals_.push_back({busy_[worker], worker, true});
      if (!has_tasks_[worker]) continue;
      sum += load_[worker];
      const double time = fixed[worker] + per_load[worker] * load_[worker] * scale;
      arrivals_.push_back({busy_[worker] + time, worker, false});
    }
    return sum / n_;
  }

  void Deliver(const Arrival& arrival, History* history) {
    const std::vector<int>& messages = arrival.late ? overdue_ : given_;
    const int64_t round = arrival.late ? overdue_round_[arrival.worker] : history->round();
    for (int age = 0; age < num_slots_; ++age) {
      const int message = messages[age * n_ + arrival.worker];
      if (message >= 0) history->Arrive(round - age, arrival.worker, message);
    }
  }

  // The time that counts as the fastest worker's: of this round's work, lest a late result that
  // comes just after its round makes this one end at once.
  double Fastest() {
    times_.clear();
    for (const Arrival& arrival : arrivals_) {
      if (!arrival.late) times_.push_back(arrival.time);
    }
    if (times_.empty()) return 0;
    if (options_.rule.reference == 1) return *std::min_element(times_.begin(), times_.end());
    const auto nth = times_.begin() + std::min<size_t>(options_.rule.reference, times_.size()) - 1;
    std::nth_element(times_.begin(), nth, times_.end());
    return *nth;
  }

  void End(SimulatedRun* run) {
    if (arrivals_.empty()) return;
    double end = 0;
    for (const Arrival& arrival : arrivals_) end = std::max(end, arrival.time);
    if (options_.rule.kind != StopKind::kAll) {
      const double soft = (1 + options_.rule.mu) * Fastest();
      if (soft < end) {
        const double stop =
            options_.rule.kind == StopKind::kModel ? ByModel(soft, end) : ByForesight(soft);
        run->num_waits += stop > soft;
        end = stop;
      } else if (options_.rule.kind == StopKind::kModel) {
        window_.Push(EmptySet(n_), repeats_);
      }
    }
    run->seconds += end;
    for (const Arrival& arrival : arrivals_) {
      if (arrival.time <= end) {
        Deliver(arrival, &history_);
      } else if (!arrival.late) {
        ++run->mean_late;
      }
    }
    if (options_.use_late) KeepLate(end);
  }

  double ByModel(double soft, double all) {
    WorkerSet late = EmptySet(n_);
    for (const Arrival& arrival : arrivals_) {
      if (!arrival.late && arrival.time > soft) Insert(arrival.worker, &late);
    }
    if (window_.Accepts(late, repeats_)) {
      window_.Push(late, repeats_);
      return soft;
    }
    window_.Push(EmptySet(n_), repeats_);
    return all;
  }

  double ByForesight(double soft) {
    const auto rest = std::partition(arrivals_.begin(), arrivals_.end(),
                                     [&](const Arrival& arrival) { return arrival.time <= soft; });
    const size_t num_soft = rest - arrivals_.begin();
    if (FeasibleWith(num_soft)) return soft;
    std::sort(rest, arrivals_.end(),
              [](const Arrival& a, const Arrival& b) { return a.time < b.time; });
    size_t few = num_soft, enough = arrivals_.size();  // What arrives never does harm.
    while (enough - few > 1) {
      const size_t middle = (few + enough) / 2;
      (FeasibleWith(middle) ? enough : few) = middle;
    }
    return arrivals_[enough - 1].time;
  }

  bool FeasibleWith(size_t num_arrivals) {
    trial_ = history_;
    for (size_t i = 0; i < num_arrivals; ++i) Deliver(arrivals_[i], &trial_);
    return foresight_.Feasible(trial_);
  }

  // Those that are not done go on. Who is busy with an older round has not begun this one.
  void KeepLate(double end) {
    overdue_round_.resize(n_);
    next_busy_.assign(n_, 0);
    for (const Arrival& arrival : arrivals_) {
      if (arrival.time <= end || (!arrival.late && busy_[arrival.worker] > end)) continue;
      next_busy_[arrival.worker] = arrival.time - end;
      if (arrival.late) continue;
      overdue_round_[arrival.worker] = history_.round();
      for (int age = 0; age < num_slots_; ++age) {
        overdue_[age * n_ + arrival.worker] = given_[age * n_ + arrival.worker];
      }
    }
    busy_.swap(next_busy_);
  }

  const GradientCode& code_;
  const DelayProfile& profile_;
  const SimulationOptions& options_;
  const int n_, num_messages_, num_slots_;
  History history_, trial_;
  Foresight foresight_;
  StragglerWindow window_;
  std::vector<int> given_, overdue_;      // By age, worker: a message or -1.
  std::vector<int64_t> overdue_round_;    // By worker: the round that `overdue_` was given in.
  std::vector<double> busy_, next_busy_;  // By worker: how long it still works on what is overdue.
  std::vector<double> loads_;             // By worker and message.
  std::vector<double> load_, times_;
  std::vector<char> has_tasks_;
  std::vector<Arrival> arrivals_;
  bool repeats_ = false;  // Somebody works on a job that is not the round's.
};

}  // namespace

StatusOr<SimulatedRun> SimulateCode(const GradientCode& code, const DelayProfile& profile,
                                    const SimulationOptions& options) {
  const CodeShape& shape = code.shape();
  if (profile.num_workers != shape.num_workers) {
    return absl::InvalidArgumentError(absl::StrCat("the delays are of ", profile.num_workers,
                                                   " workers, the code is of ", shape.num_workers));
  }
  if (options.num_jobs < 1 || options.accumulate < 1) {
    return absl::InvalidArgumentError(absl::StrCat("jobs = ", options.num_jobs, ", accumulated ",
                                                   options.accumulate,
                                                   " at a time: both must be at least 1"));
  }
  const int64_t num_jobs = (options.num_jobs + options.accumulate - 1) / options.accumulate;
  if (num_jobs > profile.num_rounds - shape.delay) {
    return absl::InvalidArgumentError(
        absl::StrCat(num_jobs, " jobs with delay ", shape.delay, " take ", num_jobs + shape.delay,
                     " rounds, the delays are of ", profile.num_rounds));
  }
  const int64_t in_last = options.num_jobs - (num_jobs - 1) * options.accumulate;
  return CodeSimulator(code, profile, options, num_jobs)
      .Run(num_jobs + shape.delay, static_cast<double>(in_last));
}

}  // namespace trireme
