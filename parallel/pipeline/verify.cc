#include "parallel/pipeline/verify.h"

#include <array>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "parallel/pipeline/dataflow.h"

namespace trireme {
namespace {

template <typename... Parts>
Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

constexpr int kNumKinds = 8;
constexpr int kAbsent = -1;

// Where the actions of one stage and micro-batch are in the program of the stage's rank.
using Places = std::array<int, kNumKinds>;

class ProgramCheck {
 public:
  explicit ProgramCheck(const LoweredPlan& plan) : plan_(plan) {
    Places absent;
    absent.fill(kAbsent);
    places_.assign(static_cast<size_t>(plan.num_stages()) * plan.num_micro_batches, absent);
  }

  Status Run() {
    for (int rank = 0; rank < plan_.num_ranks; ++rank) RETURN_IF_ERROR(Place(rank));
    for (int stage = 0; stage < plan_.num_stages(); ++stage) {
      for (int i = 0; i < plan_.num_micro_batches; ++i) RETURN_IF_ERROR(Check(stage, i));
    }
    return absl::OkStatus();
  }

 private:
  int& PlaceOf(const LoweredAction& action) {
    return places_[static_cast<size_t>(action.stage) * plan_.num_micro_batches + action.micro_batch]
                  [static_cast<int>(action.kind)];
  }

  Status Place(int rank) {
    const std::vector<LoweredAction>& program = plan_.programs[rank];
    for (size_t at = 0; at < program.size(); ++at) {
      const LoweredAction& action = program[at];
      if (action.stage < 0 || action.stage >= plan_.num_stages() ||
          plan_.rank_of_stage[action.stage] != rank || action.micro_batch < 0 ||
          action.micro_batch >= plan_.num_micro_batches) {
        return Wrong("rank ", rank, " has no ", ToString(action));
      }
      int& place = PlaceOf(action);
      if (place != kAbsent) return Wrong("rank ", rank, " has ", ToString(action), " twice");
      place = static_cast<int>(at);
    }
    return absl::OkStatus();
  }

  Status Check(int stage, int micro_batch) {
    using K = LoweredKind;
    const auto has = [&](K kind) { return PlaceOf({kind, stage, micro_batch}) != kAbsent; };
    const auto ahead = [&](K first, K second) {
      return CheckAhead({first, stage, micro_batch}, {second, stage, micro_batch});
    };
    const bool split = has(K::I) || has(K::W);
    if (split && has(K::B)) {
      return Wrong("rank ", plan_.rank_of_stage[stage], " runs ",
                   ToString(LoweredAction{K::B, stage, micro_batch}), " and I or W as well");
    }
    const K backward = split ? K::I : K::B;
    RETURN_IF_ERROR(ahead(K::F, backward));
    if (split) RETURN_IF_ERROR(ahead(K::I, K::W));
    const int next = PeerOf(stage, stage + 1), previous = PeerOf(stage, stage - 1);
    if (next != kAbsent) {
      RETURN_IF_ERROR(ahead(K::F, K::SendActivation));
      RETURN_IF_ERROR(ahead(K::RecvGradient, backward));
    }
    if (previous != kAbsent) {
      RETURN_IF_ERROR(ahead(K::RecvActivation, K::F));
      RETURN_IF_ERROR(ahead(backward, K::SendGradient));
    }
    for (const auto& [kind, peer] :
         {std::pair(K::SendActivation, next), std::pair(K::RecvGradient, next),
          std::pair(K::RecvActivation, previous), std::pair(K::SendGradient, previous)}) {
      if (has(kind)) RETURN_IF_ERROR(CheckPeer({kind, stage, micro_batch}, peer));
    }
    return absl::OkStatus();
  }

  // The rank of a stage that is next to `stage`; kAbsent: it is the same rank, or there is none.
  int PeerOf(int stage, int neighbour) const {
    if (neighbour < 0 || neighbour == plan_.num_stages()) return kAbsent;
    const int peer = plan_.rank_of_stage[neighbour];
    return peer == plan_.rank_of_stage[stage] ? kAbsent : peer;
  }

  // Both are there, in this order.
  Status CheckAhead(const LoweredAction& first, const LoweredAction& second) {
    const int rank = plan_.rank_of_stage[first.stage];
    for (const LoweredAction& action : {first, second}) {
      if (PlaceOf(action) == kAbsent) return Wrong("rank ", rank, " lacks ", ToString(action));
    }
    if (PlaceOf(first) < PlaceOf(second)) return absl::OkStatus();
    return Wrong("rank ", rank, " has ", ToString(second), " ahead of ", ToString(first));
  }

  Status CheckPeer(const LoweredAction& message, int peer) {
    const int rank = plan_.rank_of_stage[message.stage];
    const int named = plan_.programs[rank][PlaceOf(message)].peer;
    if (peer == kAbsent) return Wrong("rank ", rank, " has no other rank for ", ToString(message));
    if (named == peer) return absl::OkStatus();
    return Wrong(ToString(message), " of rank ", rank, " names rank ", named, ", not ", peer);
  }

  const LoweredPlan& plan_;
  std::vector<Places> places_;
};

// The n-th send from a rank to another meets the n-th receive there.
Status CheckPairing(const LoweredPlan& plan) {
  std::map<std::pair<int, int>, std::vector<LoweredAction>> sends;  // By sender and receiver.
  for (int rank = 0; rank < plan.num_ranks; ++rank) {
    for (const LoweredAction& action : plan.programs[rank]) {
      if (IsSend(action.kind)) sends[{rank, action.peer}].push_back(action);
    }
  }
  std::map<std::pair<int, int>, size_t> num_received;
  for (int rank = 0; rank < plan.num_ranks; ++rank) {
    for (const LoweredAction& action : plan.programs[rank]) {
      if (!IsRecv(action.kind)) continue;
      const std::pair<int, int> channel = {action.peer, rank};
      const size_t n = num_received[channel]++;
      const LoweredAction& send = sends[channel][n];
      if (RecvOf(plan, send) == action) continue;
      return Wrong("message ", n, " from rank ", action.peer, " to rank ", rank, " is sent as ",
                   ToString(send), " but received as ", ToString(action));
    }
  }
  return absl::OkStatus();
}

class Rendezvous {
 public:
  explicit Rendezvous(const LoweredPlan& plan)
      : plan_(plan),
        dataflow_(plan),
        next_(plan.num_ranks),
        receiving_(2 * static_cast<size_t>(plan.num_stages()) * plan.num_micro_batches) {}

  Status Run() {
    std::vector<int> awake;
    for (int rank = 0; rank < plan_.num_ranks; ++rank) awake.push_back(rank);
    while (!awake.empty()) {
      const int rank = awake.back();
      awake.pop_back();
      for (; next_[rank] < plan_.programs[rank].size(); ++next_[rank]) {
        const LoweredAction& action = plan_.programs[rank][next_[rank]];
        if (!Step(action)) break;
        if (IsMessage(action.kind)) awake.push_back(action.peer);
      }
    }
    for (int rank = 0; rank < plan_.num_ranks; ++rank) {
      if (!Done(rank)) return Cycle(rank);
    }
    return absl::OkStatus();
  }

 private:
  bool Done(int rank) const { return next_[rank] == plan_.programs[rank].size(); }

  // False when the action has to wait.
  bool Step(const LoweredAction& action) {
    if (IsCompute(action.kind)) {
      const Action compute = ComputeOf(action);
      if (dataflow_.ReadyAt(compute) == kNever) return false;
      dataflow_.Ends(compute, 0);
    } else if (IsSend(action.kind)) {
      const LoweredAction recv = RecvOf(plan_, action);
      if (!Receiving(recv)) return false;
      dataflow_.Arrives(recv, 0);
    } else {
      Receiving(action) = true;
    }
    return true;
  }

  std::vector<bool>::reference Receiving(const LoweredAction& recv) {
    const size_t at = static_cast<size_t>(recv.stage) * plan_.num_micro_batches + recv.micro_batch;
    return receiving_[2 * at + (recv.kind == LoweredKind::RecvGradient)];
  }

  // Whom the action waits for: the rank whose program has what it lacks, further on.
  int WaitsFor(const LoweredAction& action) const {
    if (!IsCompute(action.kind)) return action.peer;
    return plan_.rank_of_stage[action.stage + (action.kind == LoweredKind::F ? -1 : 1)];
  }

  // Every rank that waits, waits for one that does.
  Status Cycle(int rank) const {
    std::vector<bool> seen(plan_.num_ranks);
    while (!seen[rank]) {
      seen[rank] = true;
      rank = WaitsFor(plan_.programs[rank][next_[rank]]);
      CHECK(!Done(rank));
    }
    std::string cycle = absl::StrCat("the plan never ends: rank ", rank);
    const int first = rank;
    do {
      const LoweredAction& action = plan_.programs[rank][next_[rank]];
      const bool itself = WaitsFor(action) == rank;
      rank = WaitsFor(action);
      absl::StrAppend(&cycle, " waits in ", ToString(action), " for ",
                      itself ? "itself" : absl::StrCat("rank ", rank),
                      rank == first ? "" : ", which");
    } while (rank != first);
    return Wrong(cycle);
  }

  const LoweredPlan& plan_;
  Dataflow dataflow_;
  std::vector<size_t> next_;
  std::vector<bool> receiving_;  // By the stage and micro-batch that receive, and what.
};

}  // namespace

Status Verify(const LoweredPlan& plan) {
  CHECK_EQ(plan.programs.size(), static_cast<size_t>(plan.num_ranks));
  for (const int rank : plan.rank_of_stage) {
    if (rank < 0 || rank >= plan.num_ranks) return Wrong("a stage is on rank ", rank);
  }
  RETURN_IF_ERROR(ProgramCheck(plan).Run());
  RETURN_IF_ERROR(CheckPairing(plan));
  return Rendezvous(plan).Run();
}

}  // namespace trireme
