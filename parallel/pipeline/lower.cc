#include "parallel/pipeline/lower.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/pipeline/dataflow.h"

namespace trireme {
namespace {

static_assert(static_cast<int>(LoweredKind::F) == static_cast<int>(ActionKind::F) &&
              static_cast<int>(LoweredKind::B) == static_cast<int>(ActionKind::B));

// When each action begins and ends: every rank runs its order as early as the needs of its actions
// allow; F, I and W take one unit each, messages none. kNever for those that never begin.
struct Timeline {
  std::vector<std::vector<double>> begin, end;  // By rank and place in its order.
};

Timeline TimelineOf(const Plan& plan) {
  Dataflow dataflow(plan);
  Timeline timeline;
  for (const std::vector<Action>& order : plan.orders) {
    timeline.begin.emplace_back(order.size(), kNever);
    timeline.end.emplace_back(order.size(), kNever);
  }
  std::vector<size_t> next(plan.num_ranks);
  std::vector<int> awake;  // Ranks that may have come to be ready.
  for (int rank = plan.num_ranks - 1; rank >= 0; --rank) awake.push_back(rank);
  while (!awake.empty()) {
    const int rank = awake.back();
    awake.pop_back();
    std::vector<double>& end = timeline.end[rank];
    for (size_t& at = next[rank]; at < end.size(); ++at) {
      const Action& action = plan.orders[rank][at];
      const double ready = dataflow.ReadyAt(action);
      if (ready == kNever) break;
      timeline.begin[rank][at] = std::max(ready, at == 0 ? 0 : end[at - 1]);
      end[at] = timeline.begin[rank][at] + (action.kind == ActionKind::B ? 2 : 1);
      dataflow.Ends(action, end[at]);
      if (const auto send = SendAfter(plan, action)) {
        dataflow.Arrives(RecvOf(plan, *send), end[at]);
        awake.push_back(send->peer);
      }
    }
  }
  return timeline;
}

struct PlacedRecv {
  size_t before;  // This place in the order of its rank.
  LoweredAction recv;
};

// By rank, in the order of the programs.
std::vector<std::vector<PlacedRecv>> PlaceRecvs(const Plan& plan) {
  const Timeline timeline = TimelineOf(plan);
  std::vector<std::vector<PlacedRecv>> recvs(plan.num_ranks);
  for (int rank = 0; rank < plan.num_ranks; ++rank) {
    for (size_t at = 0; at < plan.orders[rank].size(); ++at) {
      const auto send = SendAfter(plan, plan.orders[rank][at]);
      if (!send) continue;
      // Ahead of the last action that begins before the message is sent. Times grow along an order,
      // so places grow along the sends from one rank to another.
      const std::vector<double>& begins = timeline.begin[send->peer];
      const size_t begun =
          std::lower_bound(begins.begin(), begins.end(), timeline.end[rank][at]) - begins.begin();
      recvs[send->peer].push_back({begun == 0 ? 0 : begun - 1, RecvOf(plan, *send)});
    }
  }
  for (std::vector<PlacedRecv>& of_rank : recvs) {
    std::stable_sort(of_rank.begin(), of_rank.end(),
                     [](const PlacedRecv& a, const PlacedRecv& b) { return a.before < b.before; });
  }
  return recvs;
}

}  // namespace

Action ComputeOf(const LoweredAction& action) {
  CHECK(IsCompute(action.kind)) << ToString(action);
  return {static_cast<ActionKind>(action.kind), action.stage, action.micro_batch};
}

std::optional<LoweredAction> SendAfter(const PipelineShape& shape, const Action& action) {
  if (action.kind == ActionKind::W) return std::nullopt;
  const bool forward = action.kind == ActionKind::F;
  const int next = action.stage + (forward ? 1 : -1);
  if (next < 0 || next == shape.num_stages()) return std::nullopt;
  const int peer = shape.rank_of_stage[next];
  if (peer == shape.rank_of_stage[action.stage]) return std::nullopt;
  return LoweredAction{forward ? LoweredKind::SendActivation : LoweredKind::SendGradient,
                       action.stage, action.micro_batch, peer};
}

LoweredAction RecvOf(const PipelineShape& shape, const LoweredAction& send) {
  CHECK(IsSend(send.kind)) << ToString(send);
  const int sender = shape.rank_of_stage[send.stage];
  if (send.kind == LoweredKind::SendActivation) {
    return {LoweredKind::RecvActivation, send.stage + 1, send.micro_batch, sender};
  }
  return {LoweredKind::RecvGradient, send.stage - 1, send.micro_batch, sender};
}

std::string ToString(const LoweredAction& action) {
  static constexpr const char* kNames[] = {
      "F", "I", "W", "B", "SendActivation", "RecvActivation", "SendGradient", "RecvGradient"};
  return absl::StrCat(kNames[static_cast<int>(action.kind)], "(stage ", action.stage,
                      ", micro-batch ", action.micro_batch, ")");
}

LoweredPlan Lower(const Plan& plan) {
  CHECK_EQ(plan.orders.size(), static_cast<size_t>(plan.num_ranks));
  for (const int rank : plan.rank_of_stage) CHECK(rank >= 0 && rank < plan.num_ranks) << rank;
  for (int rank = 0; rank < plan.num_ranks; ++rank) {
    for (const Action& action : plan.orders[rank]) {
      CHECK(action.stage >= 0 && action.stage < plan.num_stages() && action.micro_batch >= 0 &&
            action.micro_batch < plan.num_micro_batches && plan.rank_of_stage[action.stage] == rank)
          << ToString(action) << " in the order of rank " << rank;
    }
  }
  LoweredPlan lowered{plan, {}};
  const std::vector<std::vector<PlacedRecv>> recvs = PlaceRecvs(plan);
  for (int rank = 0; rank < plan.num_ranks; ++rank) {
    std::vector<LoweredAction>& program = lowered.programs.emplace_back();
    auto recv = recvs[rank].begin();
    const std::vector<Action>& order = plan.orders[rank];
    for (size_t at = 0; at < order.size(); ++at) {
      for (; recv != recvs[rank].end() && recv->before == at; ++recv) program.push_back(recv->recv);
      const Action& action = order[at];
      program.push_back({static_cast<LoweredKind>(action.kind), action.stage, action.micro_batch});
      if (const auto send = SendAfter(plan, action)) program.push_back(*send);
    }
    for (; recv != recvs[rank].end(); ++recv) program.push_back(recv->recv);
  }
  return lowered;
}

}  // namespace trireme
