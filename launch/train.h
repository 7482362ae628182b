// A whole run on one rank: resume, steps, evaluations, checkpoints, until the last step or a
// signal.
#pragma once

#include <string>

#include "core/base/status.h"
#include "launch/bootstrap.h"
#include "launch/config.h"

namespace trireme {

enum class RunEnding {
  kDone,
  kStopped,  // A signal came; the run was saved and can go on.
};

// Every rank of the world calls it with the same resolved config. `resume` is auto, never or the
// path of a checkpoint; run_dir.h says what each does.
StatusOr<RunEnding> Train(const LoadedConfig& loaded, const std::string& resume,
                          const RankContext& rank);

}  // namespace trireme
