#include "launch/run_dir.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/io/file.h"
#include "launch/checkpoint/checkpoint_dir.h"

namespace trireme {
namespace {

// A run that ended before its first step, for a config that could not be, is none.
StatusOr<bool> HoldsRun(const std::string& run_dir) {
  if (!PathExists(ConfigPath(run_dir))) return false;
  if (PathExists(MetricsPath(run_dir))) return true;
  ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListCheckpoints(CheckpointsDir(run_dir)));
  return !steps.empty();
}

}  // namespace

std::string ConfigPath(absl::string_view run_dir) { return JoinPath(run_dir, "config.textproto"); }
std::string MetricsPath(absl::string_view run_dir) { return JoinPath(run_dir, "metrics.jsonl"); }
std::string LogsDir(absl::string_view run_dir) { return JoinPath(run_dir, "logs"); }
std::string RankLogPath(absl::string_view run_dir, int rank) {
  return JoinPath(LogsDir(run_dir), absl::StrFormat("rank-%04d.log", rank));
}
std::string CheckpointsDir(absl::string_view run_dir) { return JoinPath(run_dir, "checkpoints"); }

StatusOr<ResumeFrom> DecideResume(const RunConfig& config, absl::string_view resume) {
  const std::string& run_dir = config.run_dir();
  ASSIGN_OR_RETURN(const bool holds_run, HoldsRun(run_dir));
  if (resume == "never" && holds_run) {
    return absl::AlreadyExistsError(absl::StrCat(
        run_dir, " holds a run; continue it with --resume auto, or give another --run_dir"));
  }
  if (holds_run) {
    ASSIGN_OR_RETURN(const LoadedConfig there, LoadConfig(ConfigPath(run_dir), {}));
    const std::vector<std::string> differences = ConfigDifferences(there.config, config);
    if (!differences.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          run_dir, " holds a run of another config: ", absl::StrJoin(differences, ", "),
          "; give the same values, or another --run_dir"));
    }
  }
  if (resume == "auto") return holds_run ? ResumeFrom::kNewest : ResumeFrom::kStart;
  return resume == "never" ? ResumeFrom::kStart : ResumeFrom::kPath;
}

Status PrepareRunDir(const LoadedConfig& loaded) {
  const std::string& run_dir = loaded.config.run_dir();
  for (const std::string& folder : {LogsDir(run_dir), CheckpointsDir(run_dir)}) {
    RETURN_IF_ERROR(MakeDirectory(folder));
  }
  return WriteFileAtomically(ConfigPath(run_dir), PrintConfig(loaded, /*with_origins=*/true));
}

}  // namespace trireme
