#include "launch/checkpoint/checkpoint_dir.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

#include "core/base/log.h"
#include "core/io/file.h"

namespace trireme {
namespace {

constexpr absl::string_view kPrefix = "step-";

// Opens, checks what the name promises, and verifies.
Status CheckUsable(const std::string& path, int64_t step, CheckpointReader::Depth depth) {
  ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(path));
  if (reader.info().step != step) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds step ", reader.info().step));
  }
  return reader.Verify(depth);
}

}  // namespace

std::string CheckpointName(int64_t step) { return absl::StrFormat("%s%08d", kPrefix, step); }

bool ParseCheckpointName(absl::string_view name, int64_t* step) {
  absl::string_view digits = name;
  return absl::ConsumePrefix(&digits, kPrefix) && absl::SimpleAtoi(digits, step) && *step >= 0 &&
         name == CheckpointName(*step);
}

StatusOr<std::vector<int64_t>> ListCheckpoints(const std::string& dir) {
  std::vector<int64_t> steps;
  if (!PathExists(dir)) return steps;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(dir));
  for (const std::string& name : names) {
    int64_t step;
    if (ParseCheckpointName(name, &step)) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

StatusOr<std::string> FindLatest(const std::string& dir, CheckpointReader::Depth depth,
                                 int max_attempts) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListCheckpoints(dir));
  if (steps.empty()) return absl::NotFoundError(absl::StrCat("no checkpoint in ", dir));
  const int attempts = std::min<int64_t>(steps.size(), max_attempts);
  for (int i = 0; i < attempts; ++i) {
    const std::string path = JoinPath(dir, CheckpointName(steps[i]));
    const Status usable = CheckUsable(path, steps[i], depth);
    if (usable.ok()) return path;
    LOG(WARNING) << "passing over the checkpoint " << path << ": " << usable.message();
  }
  return absl::DataLossError(absl::StrCat("none of the newest ", attempts, " checkpoints in ", dir,
                                          " is usable; the log says why"));
}

Status RemoveLeftovers(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(dir));
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, kPrefix) || !IsTemporaryName(name)) continue;
    RETURN_IF_ERROR(RemoveTree(JoinPath(dir, name)));
  }
  return absl::OkStatus();
}

Status RemoveOldCheckpoints(const std::string& dir, int keep) {
  CHECK_GE(keep, 1) << "[checkpoint]";
  ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListCheckpoints(dir));
  int usable = 0;
  for (const int64_t step : steps) {
    const std::string path = JoinPath(dir, CheckpointName(step));
    if (usable < keep) {
      if (CheckUsable(path, step, CheckpointReader::Depth::kHeaders).ok()) ++usable;
      continue;
    }
    // Under its temporary name: a removal that is cut short leaves no damaged checkpoint.
    RETURN_IF_ERROR(RenameDurably(path, TemporaryName(path)));
    RETURN_IF_ERROR(RemoveTree(TemporaryName(path)));
  }
  return absl::OkStatus();
}

}  // namespace trireme
