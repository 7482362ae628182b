// Gradient codes as data: who computes which parts of a job's gradient in which round, and how the
// gradient comes out of what has arrived. Pure functions of histories; nothing communicates here.
//
// A job is one gradient, g = sum_i g_i over its parts. Each of n workers has a fixed set of
// messages for it; message m of worker w is sum_i B[w, m, i] g_i. One new job starts in each round;
// in a round a worker computes at most one message of each open job, and job t must decode by the
// end of round t + T:
//   g = sum of a[w, m] (message m of w) over the messages that have arrived
// Codes with T = 0 are those of Tandon et al., "Gradient coding" (ICML 2017); with T > 0 those of
// Krishnan, Ebrahimi, Khisti, "Sequential gradient coding for straggler mitigation" (ICLR 2023).
// Everything counts from 0.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/params.h"
#include "core/base/registry.h"
#include "core/base/status.h"

namespace trireme {

// Which patterns of late workers a code is made for, in all windows of consecutive rounds.
struct StragglerModel {
  int per_round = 0;  // At most so many in a round.
  // When window > 0, or: at most `distinct` workers in `window` rounds, each of them late in no two
  // rounds that are `burst` or more apart (within the window).
  int burst = 0, window = 0, distinct = 0;
};

struct CodeShape {
  int num_workers = 0;
  int num_messages = 1;  // Of a worker and a job, 64 at most.
  int num_blocks = 1;    // A message has 1 / num_blocks of the gradient's elements.
  int delay = 0;         // T.
  double load = 0;       // The part of a job's work that a worker does in a round, at most.
  // Every pattern of this model decodes; with T = 0, some set of one straggler more does not.
  StragglerModel tolerates;
  bool exact = true;            // false: what is decoded is an estimate, with an error.
  std::vector<int> part_units;  // Sizes of the parts relative to each other, by part.

  int num_parts() const { return static_cast<int>(part_units.size()); }
  int64_t num_units() const;
};

struct PartTerm {
  int part;
  double weight;

  bool operator==(const PartTerm&) const = default;
};

// What a worker sends: the sum over `parts`, cut in as many blocks as there are `blocks`, and then
// the sum of the blocks so weighted. One block of weight 1 for most codes.
struct Message {
  std::vector<PartTerm> parts;
  std::vector<double> blocks = {1.0};
};

// weight times the message goes to `block` of the gradient.
struct DecodeTerm {
  int worker;
  int message;
  int block;
  double weight;

  bool operator==(const DecodeTerm&) const = default;
};

struct Decoding {
  // In the order of their sum. Where workers repeat each other's parts, it is that of the parts, so
  // that sums have the same bits whoever was late.
  std::vector<DecodeTerm> terms;
  // Of an estimate: sum_i u_i (c_i - 1)^2 / sum_i u_i, with c_i the weight that part i comes out
  // with and u_i its size. The squared relative error for parts that are independent.
  double error = 0;
};

// What has arrived of the open jobs, delay + 1 of them: all that a code may depend on. Its size
// never changes.
class History {
 public:
  static constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

  // Before round 0. Jobs are 0 .. num_jobs - 1.
  explicit History(const CodeShape& shape, int64_t num_jobs = kEndless);

  int64_t round() const { return round_; }
  int64_t num_jobs() const { return num_jobs_; }
  bool IsOpen(int64_t job) const {
    return job >= 0 && job < num_jobs_ && job <= round_ && job >= round_ - delay_;
  }
  // Of an open job, by worker: bit m when message m has arrived.
  absl::Span<const uint64_t> arrived(int64_t job) const { return {Row(job), num_workers_}; }
  // Which of its redundancies a job was started with, for codes that have several; 0 is the first.
  int level(int64_t job) const { return levels_[job % (delay_ + 1)]; }

  // Nothing happens when the job is no longer open: late results of closed jobs are dropped.
  void Arrive(int64_t job, int worker, int message);
  // The next round begins, with one job more of this level; the oldest job is forgotten.
  void NextRound(int level = 0);

 private:
  const uint64_t* Row(int64_t job) const {
    return arrived_.data() + job % (delay_ + 1) * num_workers_;
  }

  size_t num_workers_;
  int64_t num_jobs_, delay_, round_ = 0;
  std::vector<uint64_t> arrived_;  // Of job j in row j mod (delay + 1).
  std::vector<int> levels_;
};

class GradientCode {
 public:
  explicit GradientCode(CodeShape shape) : shape_(std::move(shape)) {}
  virtual ~GradientCode() = default;
  GradientCode(const GradientCode&) = delete;

  const CodeShape& shape() const { return shape_; }

  // By worker, the message that it computes of the job round - age in the round that `history` is
  // at, or -1. The job is open. Asked with what had arrived when the round began.
  virtual void Assign(const History& history, int age, absl::Span<int> messages) const;
  virtual Message MessageOf(int worker, int message) const = 0;
  // The part of a job's work that the message takes.
  virtual double LoadOf(int worker, int message) const = 0;
  // Whether the job decodes from these messages (a mask by worker, as in History).
  virtual bool Decodes(absl::Span<const uint64_t> arrived) const = 0;
  // FAILED_PRECONDITION when it does not. Least squares behind it: see decoder.h, which keeps what
  // it has decoded.
  virtual StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const = 0;

 private:
  const CodeShape shape_;
};

// Made of a number of workers that MakeGradientCode has checked and of parameters from the table.
// INVALID_ARGUMENT, with the numbers, when there is no such code.
using GradientCodeFactory = StatusOr<std::unique_ptr<GradientCode>> (*)(int num_workers,
                                                                        const Params& params);

// The registry, made from gradient_codes.def.
absl::Span<const Entry<GradientCodeFactory>> GradientCodes();

inline constexpr char kDefaultGradientCode[] = "fractional_repetition";
inline constexpr int kMaxCodedWorkers = 4096;

// A registered code. INVALID_ARGUMENT for an unknown name, parameters that it does not take and
// those that no code satisfies.
StatusOr<std::unique_ptr<GradientCode>> MakeGradientCode(absl::string_view name,
                                                         int64_t num_workers,
                                                         const ParamMap& params = {});

// What a worker does in a round, newest job first.
struct Task {
  int64_t job;
  int message;
  Message content;
};
std::vector<Task> Assignment(const GradientCode& code, const History& history, int worker);

// Decodes an open job from what the history has of it.
StatusOr<Decoding> Decode(const GradientCode& code, const History& history, int64_t job);

// Micro-batches [result[i], result[i + 1]) of a job are part i: whole ones, sizes as the code wants
// them when num_micro_batches is a multiple of num_units(), else as near as possible.
std::vector<int64_t> PartBoundaries(const CodeShape& shape, int64_t num_micro_batches);

// How much larger the relative rounding error of what is decoded is than that of the messages:
//   sqrt(sum_wm a[w, m]^2 sum_i B[w, m, i]^2 u_i / sum_i u_i)
double NoiseAmplification(const GradientCode& code, const Decoding& decoding);

// FAILED_PRECONDITION "NAME: k of n messages have arrived, ...", for Decode.
Status CannotDecode(absl::string_view code, const CodeShape& shape,
                    absl::Span<const uint64_t> arrived);

}  // namespace trireme
