// The checkpoints of a run: directories step-00000012, step-00000024, ... in one directory.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "launch/checkpoint/checkpoint_reader.h"

namespace trireme {

std::string CheckpointName(int64_t step);  // "step-00000012"
// False for anything else, temporary names included.
bool ParseCheckpointName(absl::string_view name, int64_t* step);

// The steps that `dir` has a checkpoint of, usable or not, newest first. A missing `dir` has none.
StatusOr<std::vector<int64_t>> ListCheckpoints(const std::string& dir);

// The directory of the newest checkpoint that passes Verify(depth). Each newer one that does not is
// logged with the reason. NOT_FOUND when `dir` has no checkpoint; DATA_LOSS when it has some but
// none of the newest `max_attempts` is usable.
StatusOr<std::string> FindLatest(const std::string& dir,
                                 CheckpointReader::Depth depth = CheckpointReader::Depth::kData,
                                 int max_attempts = 8);

// Removes temporary directories that interrupted saves left behind.
Status RemoveLeftovers(const std::string& dir);

// Removes all checkpoints older than the newest `keep` whose headers are sound. A damaged one
// counts for none. CHECKs that keep >= 1.
Status RemoveOldCheckpoints(const std::string& dir, int keep);

}  // namespace trireme
