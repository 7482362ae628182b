// The folder of a run: what is where, and what --resume does with a folder that holds a run
// already.
//
//   <run_dir>/config.textproto     the resolved config
//   <run_dir>/metrics.jsonl
//   <run_dir>/logs/rank-0003.log
//   <run_dir>/checkpoints/
#pragma once

#include <string>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "launch/config.h"

namespace trireme {

std::string ConfigPath(absl::string_view run_dir);
std::string MetricsPath(absl::string_view run_dir);
std::string LogsDir(absl::string_view run_dir);
std::string RankLogPath(absl::string_view run_dir, int rank);
std::string CheckpointsDir(absl::string_view run_dir);

enum class ResumeFrom {
  kStart,   // The run begins at step 0.
  kNewest,  // The newest valid checkpoint of the run folder; step 0 when it has none.
  kPath,    // The checkpoint that --resume names.
};

// The policy of --resume:
//   auto   an empty or absent folder starts; a folder with a run goes on from its newest valid
//   checkpoint
//          when the config says the same of all that determines the numbers (ConfigHash), and is
//          FAILED_PRECONDITION naming what differs when it does not
//   never  starts; ALREADY_EXISTS when the folder holds a run
//   PATH   starts from that checkpoint; the folder may hold a run of the same config, as with auto
// Reads only.
StatusOr<ResumeFrom> DecideResume(const RunConfig& config, absl::string_view resume);

// Makes the folders and writes the resolved config. For rank 0, before any rank writes there.
Status PrepareRunDir(const LoadedConfig& loaded);

}  // namespace trireme
