// How a run shows where it is: one live line on a terminal, whole lines anywhere else. A log never
// gets a carriage return.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "launch/metrics.h"
#include "launch/phase_timer.h"

namespace trireme {

struct ProgressOptions {
  int fd = -1;  // Stays open.
  bool live = false;
  int64_t first_step = 0;  // Steps done before.
  int64_t num_steps = 0;
  int64_t log_every = 0;  // Whole lines: each so many steps; 0: about every ten seconds.
  bool timestamps = false;
  TimeSource clock = &absl::Now;
};

class Progress {
 public:
  explicit Progress(ProgressOptions options);

  void Step(const StepMetrics& metrics);
  // A whole line, above the live one if there is one.
  void Line(absl::string_view text);
  // Ends the live line.
  void Finish();

 private:
  std::string Describe(const StepMetrics& metrics) const;
  void Draw();
  void Write(absl::string_view text) const;

  ProgressOptions options_;
  absl::Time start_;
  absl::Time last_shown_;
  int64_t steps_seen_ = 0;
  StepMetrics last_;
  bool pending_ = false;  // The last step was not shown.
  bool drawn_ = false;    // A live line stands on the terminal.
};

// True when `fd` is a terminal somebody looks at. Under an MPI launcher the ranks' output may be a
// pseudo-terminal that ends in a file: then the launcher's own output decides.
bool IsLiveTerminal(int fd);

}  // namespace trireme
