// What ranks tell each other besides training, on the host: statuses, paths, reports, signals.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// Everybody's text (any bytes), in rank order, on every rank. A collective of `world`.
StatusOr<std::vector<std::string>> GatherTexts(Communicator& world, absl::string_view mine);

// Rank 0's text, on every rank; what the others pass is not looked at. A collective of `world`.
StatusOr<std::string> BroadcastText(Communicator& world, absl::string_view text_of_rank_0);

// The largest number that a rank gave, on every rank. A collective of `world`; `host` is a device
// of its kind of memory.
StatusOr<int64_t> LargestOf(Communicator& world, Device& host, int64_t mine);

}  // namespace trireme
