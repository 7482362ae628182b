// Ranks that are threads of this process. A world is an object: many can live at once.
#pragma once

#include <functional>
#include <memory>

#include "core/base/status.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// A world of one rank.
std::unique_ptr<Communicator> MakeSelfCommunicator(const CommOptions& options = {});

// Runs fn on `num_ranks` threads, each with its rank of one world, until all have returned. A
// status that is not OK, or a Failure, on one rank ends the world for all; returns the first one,
// naming its rank. LogRank() is the rank in each thread.
Status RunOnRanks(int num_ranks, const CommOptions& options,
                  const std::function<Status(Communicator& world)>& fn);

}  // namespace trireme
