// How long a lowered plan takes and what it holds.
#pragma once

#include <vector>

#include "parallel/pipeline/lower.h"

namespace trireme {

// Of one micro-batch on all stages of a rank; a chunk takes 1 / num_chunks of it. B takes I and W.
struct PipelineCosts {
  double forward = 1;
  double input_gradient = 1;
  double weight_gradient = 1;
  double message = 0;  // Of one activation or gradient between two ranks, whatever the chunks.
};

struct TimedAction {
  Action action;
  double begin;
  double end;
};

struct RankSimulation {
  std::vector<TimedAction> actions;  // In order.
  double idle = 0;                   // Of the makespan.
  double idle_inside = 0;            // Between its first action and its last.
  // Activations held, in micro-batches of all stages of a rank: a chunk counts 1 / num_chunks from
  // the beginning of its F to the end of its B or W.
  double peak_in_flight = 0;
};

struct Simulation {
  double makespan = 0;
  std::vector<RankSimulation> ranks;
};

// Every rank runs its program as fast as it can. A message moves when it was sent and its receive
// started and the message before it, from the same rank to the same rank, is through; nobody waits
// for it but the action that needs it. REQUIRES: Verify(plan).ok().
Simulation Simulate(const LoweredPlan& plan, const PipelineCosts& costs = {});

}  // namespace trireme
