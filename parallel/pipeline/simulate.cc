#include "parallel/pipeline/simulate.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/base/log.h"
#include "parallel/pipeline/dataflow.h"

namespace trireme {
namespace {

// Times here are multiplied by num_chunks, so that whole costs make whole times.
class Simulator {
 public:
  Simulator(const LoweredPlan& plan, const PipelineCosts& costs)
      : plan_(plan),
        costs_(costs),
        dataflow_(plan),
        now_(plan.num_ranks),
        next_(plan.num_ranks),
        ranks_(plan.num_ranks) {}

  Simulation Run() {
    std::vector<int> awake;  // Ranks that may have come to be able to go on.
    for (int rank = plan_.num_ranks - 1; rank >= 0; --rank) awake.push_back(rank);
    while (!awake.empty()) {
      const int rank = awake.back();
      awake.pop_back();
      for (; next_[rank] < plan_.programs[rank].size(); ++next_[rank]) {
        const LoweredAction& action = plan_.programs[rank][next_[rank]];
        if (IsCompute(action.kind)) {
          if (!Compute(rank, ComputeOf(action))) break;
        } else if (Meet(rank, action)) {
          awake.push_back(action.peer);
        }
      }
    }
    for (int rank = 0; rank < plan_.num_ranks; ++rank) {
      CHECK(next_[rank] == plan_.programs[rank].size()) << "a plan that Verify refuses";
    }
    return Summary();
  }

 private:
  struct Channel {
    std::vector<double> sent, received;  // When each message was, as far as the ranks have come.
    double free = 0;                     // When the last message is through.
  };

  double Cost(ActionKind kind) const {
    switch (kind) {
      case ActionKind::F:
        return costs_.forward;
      case ActionKind::I:
        return costs_.input_gradient;
      case ActionKind::W:
        return costs_.weight_gradient;
      case ActionKind::B:
        return costs_.input_gradient + costs_.weight_gradient;
    }
    return 0;
  }

  bool Compute(int rank, const Action& action) {
    const double ready = dataflow_.ReadyAt(action);
    if (ready == kNever) return false;
    const double begin = std::max(ready, now_[rank]);
    now_[rank] = begin + Cost(action.kind);
    dataflow_.Ends(action, now_[rank]);
    ranks_[rank].actions.push_back({action, begin, now_[rank]});
    return true;
  }

  // A send or a receive happens; true when the message moves, for the other had happened.
  bool Meet(int rank, const LoweredAction& action) {
    const bool send = IsSend(action.kind);
    Channel& channel =
        channels_[send ? std::pair(rank, action.peer) : std::pair(action.peer, rank)];
    std::vector<double>& own = send ? channel.sent : channel.received;
    const std::vector<double>& other = send ? channel.received : channel.sent;
    own.push_back(now_[rank]);
    if (other.size() < own.size()) return false;
    channel.free = std::max({channel.free, own.back(), other[own.size() - 1]}) +
                   costs_.message * plan_.num_chunks;
    dataflow_.Arrives(send ? RecvOf(plan_, action) : action, channel.free);
    return true;
  }

  Simulation Summary() {
    const double scale = plan_.num_chunks;
    Simulation simulation;
    const double makespan = *std::max_element(now_.begin(), now_.end());
    simulation.makespan = makespan / scale;
    for (RankSimulation& rank : ranks_) {
      double busy = 0;
      int in_flight = 0, peak = 0;
      for (TimedAction& timed : rank.actions) {
        busy += timed.end - timed.begin;
        if (timed.action.kind == ActionKind::F) peak = std::max(peak, ++in_flight);
        if (timed.action.kind == ActionKind::B || timed.action.kind == ActionKind::W) --in_flight;
      }
      rank.idle = (makespan - busy) / scale;
      rank.idle_inside = (rank.actions.back().end - rank.actions.front().begin - busy) / scale;
      rank.peak_in_flight = peak / scale;
      for (TimedAction& timed : rank.actions) {
        timed.begin /= scale;
        timed.end /= scale;
      }
    }
    simulation.ranks = std::move(ranks_);
    return simulation;
  }

  const LoweredPlan& plan_;
  const PipelineCosts costs_;
  Dataflow dataflow_;
  std::vector<double> now_;
  std::vector<size_t> next_;
  std::map<std::pair<int, int>, Channel> channels_;  // By sender and receiver.
  std::vector<RankSimulation> ranks_;
};

}  // namespace

Simulation Simulate(const LoweredPlan& plan, const PipelineCosts& costs) {
  return Simulator(plan, costs).Run();
}

}  // namespace trireme
