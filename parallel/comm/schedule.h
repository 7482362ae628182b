// Schedules: each collective as data. A schedule is a list of phases; in a phase all messages move
// at once, in any order, and when the last has arrived a local step follows. One engine runs any
// schedule over any transport; sends never wait for anything but the phase before.
//
// Every collective lets each rank exchange messages with each peer it depends on, directly: a rank
// that does not come is named by all that miss it, which trees and rings cannot do.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"

#include "parallel/comm/place.h"
#include "parallel/comm/reduce.h"

namespace trireme {

enum class Direction : uint8_t { kSend, kRecv };

struct Message {
  int peer;  // A rank of the communicator.
  Direction direction;
  char* data;
  int64_t bytes;
  // Preceded by a description of the call, which the receiver compares with its own. The first
  // message between two ranks is, and is the only one between them in its phase and direction, even
  // when empty; later empty ones are dropped.
  bool framed;
};

struct Phase {
  std::vector<Message> messages;
  std::function<void()> then;  // May be empty.
};

using Schedule = std::vector<Phase>;

// Messages up to this size travel inside the frame. Reductions and broadcasts up to this size are
// direct: everybody sends everything to everybody (or the root does).
inline constexpr int64_t kInlineBytes = 1024;

// Element `part` * count / parts: the cut of `count` elements into equal parts.
int64_t PartBegin(int64_t count, int64_t parts, int64_t part);

// How many bytes of scratch memory AllReduce and ReduceScatter need.
int64_t ReduceScratchBytes(Place place, int64_t largest_part, DType dtype, int64_t block_bytes);

// Sends count - own slice elements to reduce, own slice * (size - 1) to gather, block by block: the
// gather of a block travels with the exchange of the next. Small ones: count * (size - 1).
Schedule AllReduceSchedule(Place place, char* data, int64_t count, const Reduction& reduction,
                           int64_t block_bytes, char* scratch);
// counts: by rank.
Schedule ReduceScatterSchedule(Place place, char* input, char* output,
                               absl::Span<const int64_t> counts, const Reduction& reduction,
                               int64_t block_bytes, char* scratch);
// All counts below are in bytes.
Schedule AllGatherSchedule(Place place, char* input, char* output,
                           absl::Span<const int64_t> counts);
Schedule AllToAllSchedule(Place place, char* input, absl::Span<const int64_t> send_counts,
                          char* output, absl::Span<const int64_t> recv_counts);
// The root sends a slice to each rank, these exchange their slices: the root sends `bytes`, the
// others slice * (size - 2). Small ones: the root sends bytes * (size - 1).
Schedule BroadcastSchedule(Place place, char* data, int64_t bytes, int root);
Schedule BarrierSchedule(Place place);

}  // namespace trireme
