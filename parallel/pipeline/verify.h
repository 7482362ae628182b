// Proves that a lowered plan is right and ends, before any rank starts it.
#pragma once

#include "core/base/status.h"
#include "parallel/pipeline/lower.h"

namespace trireme {

// OK means, of the programs of all ranks:
//  - each stage runs each micro-batch forward once, then backward once (B, or I and later W), on
//  the
//    rank that has the stage;
//  - each message is sent once, after the action that makes it, and received once, ahead of the
//    action that needs it; no message travels inside a rank;
//  - from one rank to another, messages are received in the order in which they are sent;
//  - the programs end under rendezvous: a rank runs its program strictly in order; a send waits
//    until its peer's program has reached the receive (which itself waits for nothing); F, I and B
//    wait until what they need was sent; W waits for nothing more. What ends so ends with any
//    buffering, any speed of ranks and any delay of messages, since waiting less cannot block:
//    nothing is ever chosen by who comes first.
// Otherwise INVALID_ARGUMENT of one line; of a plan that does not end, the cycle of waits:
// "rank 0 waits in SendActivation(stage 0, micro-batch 3) for rank 1, which waits in ...".
Status Verify(const LoweredPlan& plan);

}  // namespace trireme
