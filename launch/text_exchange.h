// Short texts between ranks: statuses, paths, reports. Any bytes; copied, so not for tensors.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// Everybody's text, in rank order, on every rank. A collective of `world`.
StatusOr<std::vector<std::string>> GatherTexts(Communicator& world, absl::string_view mine);

// Rank 0's text, on every rank; what the others pass is not looked at. A collective of `world`.
StatusOr<std::string> BroadcastText(Communicator& world, absl::string_view text_of_rank_0);

}  // namespace trireme
