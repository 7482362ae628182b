// How the gradients of a step come together. Rounds compute and updates consume; they are not one
// to one: a round's plan may hold work for several jobs, and a round may complete none, one or
// several of them (accumulation, gradient codes with delay).
//
//   Plan(step) -> the executor runs the items into sinks -> Finish() -> one update per
//   completed job
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/module/gradient_buffers.h"

namespace trireme {

// One micro-batch of one job.
struct WorkItem {
  int64_t job = 0;               // The update it is for.
  std::vector<int64_t> samples;  // Global sample indices.
  double weight = 1;             // Seeds backward, so coded sums need no gradient of their own.
  int sink = 0;
};

// A loss as a pair: the mean is taken once, after all sums.
struct LossSum {
  double sum = 0;
  int64_t count = 0;  // Labels.
  int64_t bytes = 0;  // Of the text that the counted labels stand for.

  void Add(const LossSum& other) {
    sum += other.sum;
    count += other.count;
    bytes += other.bytes;
  }
};

struct CompletedJob {
  int64_t job = 0;
  const UnitTensors* gradients =
      nullptr;   // Of the owned slices, summed over all samples of the job.
  LossSum loss;  // Likewise.
};

class GradientExchange {
 public:
  virtual ~GradientExchange() = default;

  // This rank's work of one round. Every rank plans the same rounds.
  virtual std::vector<WorkItem> Plan(int64_t step) = 0;

  // Where items accumulate. The executor calls Reset before the first item of a round.
  virtual GradientBuffers& sink(int i) = 0;
  virtual void Reset() = 0;

  // An item has added its part to the gradients of `unit`; with `last` no other item of its sink
  // will in this round, so talking about them may start while backward goes on.
  virtual Status UnitDone(int sink, int unit, bool last) = 0;
  // Waits for gradients that need memory of their own until they have arrived: the executor is
  // about to make more of them.
  virtual Status Settle() { return absl::OkStatus(); }

  // After the items: waits for the other ranks as far as the method needs them. losses[i] is what
  // the items of sink i added up to on this rank.
  virtual StatusOr<std::vector<CompletedJob>> Finish(absl::Span<const LossSum> losses) = 0;
};

}  // namespace trireme
