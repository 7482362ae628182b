// Lowering: from what each rank computes to all that it does, messages included. The verifier, the
// simulator and the executor read the same lowered plan.
//
// The program of a rank is run from the front, one action after another:
//   F, I, W, B       computes. When its input (F) or the gradient of its output (I, B) comes from
//                    another rank, it first waits for that receive; otherwise the stage before or
//                    after is on this rank and has handed it over.
//   RecvActivation   starts receiving the input of `stage` from `peer`; waits for nothing.
//   RecvGradient     starts receiving the gradient of the output of `stage`; waits for nothing.
//   SendActivation   starts sending the output of `stage`, which the action before computed.
//   SendGradient     starts sending the gradient of the input of `stage`, likewise.
// `stage` is always one of the rank's own, so SendActivation(s) is met by RecvActivation(s + 1) and
// SendGradient(s) by RecvGradient(s - 1).
//
// What holds of the programs that Lower makes from a plan that can run at all:
//  - Between two ranks, in one direction, messages are received in the order in which they are
//    sent, whatever they carry: a communicator that pairs the n-th send with the n-th receive
//    delivers each to its action.
//  - A send follows the action that made it, at once. Whoever runs the program need not wait for
//    it; the tensor lives until it is done.
//  - A receive is ahead of an action that begins before the message is sent, when every action
//    takes the time it is planned with: the transfer has the whole of an action to hide behind, and
//    a send never waits for a receive that only comes later (rendezvous, so no buffering is
//    needed). It is no further ahead than that, since its memory is held from then on.
//  - Nothing is sent between stages of one rank.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "parallel/pipeline/schedule.h"

namespace trireme {

enum class LoweredKind : uint8_t {
  F,
  I,
  W,
  B,  // The first four are those of ActionKind.
  SendActivation,
  RecvActivation,
  SendGradient,
  RecvGradient,
};

struct LoweredAction {
  LoweredKind kind;
  int stage;
  int micro_batch;
  int peer = -1;  // Of a message: the other rank of the pipeline.

  bool operator==(const LoweredAction&) const = default;
};

inline bool IsCompute(LoweredKind kind) { return kind <= LoweredKind::B; }
inline bool IsSend(LoweredKind kind) {
  return kind == LoweredKind::SendActivation || kind == LoweredKind::SendGradient;
}
inline bool IsRecv(LoweredKind kind) {
  return kind == LoweredKind::RecvActivation || kind == LoweredKind::RecvGradient;
}
inline bool IsMessage(LoweredKind kind) { return IsSend(kind) || IsRecv(kind); }
// REQUIRES: IsCompute(action.kind).
Action ComputeOf(const LoweredAction& action);
// The send that follows an action; none when no other rank waits for what it makes.
std::optional<LoweredAction> SendAfter(const PipelineShape& shape, const Action& action);
// The receive that meets a send, on its peer. REQUIRES: IsSend(send.kind).
LoweredAction RecvOf(const PipelineShape& shape, const LoweredAction& send);

// "SendActivation(stage 1, micro-batch 3)".
std::string ToString(const LoweredAction& action);

struct LoweredPlan : PipelineShape {
  std::vector<std::vector<LoweredAction>> programs;  // By rank.
};

// CHECKs that stages are on ranks of the plan, and that each action names a stage of its rank and a
// micro-batch of the plan. Never fails
// otherwise: a plan that cannot run is lowered too, and Verify says why it cannot.
LoweredPlan Lower(const Plan& plan);

}  // namespace trireme
