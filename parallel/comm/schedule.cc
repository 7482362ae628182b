#include "parallel/comm/schedule.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

namespace trireme {
namespace {

void AddSend(Phase& phase, int peer, char* data, int64_t bytes, bool framed) {
  if (bytes > 0 || framed) phase.messages.push_back({peer, Direction::kSend, data, bytes, framed});
}

void AddRecv(Phase& phase, int peer, char* data, int64_t bytes, bool framed) {
  if (bytes > 0 || framed) phase.messages.push_back({peer, Direction::kRecv, data, bytes, framed});
}

// The other ranks, starting behind this one, so that not all begin with rank 0.
std::vector<int> Peers(Place place) {
  std::vector<int> peers;
  for (int i = 1; i < place.size; ++i) peers.push_back((place.rank + i) % place.size);
  return peers;
}

std::vector<int64_t> Offsets(absl::Span<const int64_t> counts) {
  std::vector<int64_t> offsets(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  return offsets;
}

void Move(char* dst, const char* src, int64_t bytes) {
  if (bytes > 0 && dst != src) std::memmove(dst, src, bytes);
}

int64_t BlockElements(DType dtype, int64_t block_bytes) {
  return std::max<int64_t>(1, block_bytes / DTypeSize(dtype));
}

bool IsDirect(int64_t count, DType dtype) { return count * DTypeSize(dtype) <= kInlineBytes; }

// The local step of a reduction: rank r's contribution lies in scratch, this rank's in `own`.
std::function<void()> ReduceStep(Place place, const Reduction& reduction, char* scratch,
                                 const char* own, char* output, int64_t count) {
  std::vector<const char*> inputs(place.size);
  const int64_t stride = count * DTypeSize(reduction.dtype);
  int64_t slot = 0;
  for (int r = 0; r < place.size; ++r) {
    inputs[r] = r == place.rank ? own : scratch + stride * slot++;
  }
  return [reduction, inputs = std::move(inputs), output, count] {
    Reduce(reduction, inputs, output, count);
  };
}

// Where a peer's contribution of `bytes` goes in scratch: the slots of ReduceStep.
char* ScratchSlot(Place place, char* scratch, int peer, int64_t bytes) {
  return scratch + bytes * (peer < place.rank ? peer : peer - 1);
}

}  // namespace

int64_t PartBegin(int64_t count, int64_t parts, int64_t part) {
  return count / parts * part + std::min(part, count % parts);
}

int64_t ReduceScratchBytes(Place place, int64_t largest_part, DType dtype, int64_t block_bytes) {
  const int64_t block = BlockElements(dtype, block_bytes);
  const int64_t slice = std::max<int64_t>(block / place.size + 1, kInlineBytes / DTypeSize(dtype));
  return (place.size - 1) * std::min(largest_part, slice) * DTypeSize(dtype);
}

Schedule AllReduceSchedule(Place place, char* data, int64_t count, const Reduction& reduction,
                           int64_t block_bytes, char* scratch) {
  const int64_t width = DTypeSize(reduction.dtype);
  Schedule schedule;
  if (IsDirect(count, reduction.dtype)) {
    Phase& phase = schedule.emplace_back();
    for (const int peer : Peers(place)) {
      AddSend(phase, peer, data, count * width, true);
      AddRecv(phase, peer, ScratchSlot(place, scratch, peer, count * width), count * width, true);
    }
    phase.then = ReduceStep(place, reduction, scratch, data, data, count);
    return schedule;
  }
  const int64_t block = BlockElements(reduction.dtype, block_bytes);
  const int64_t num_blocks = (count + block - 1) / block;
  const auto slice = [&](int64_t b, int rank) {
    const int64_t size = std::min(block, count - b * block);
    const int64_t begin = PartBegin(size, place.size, rank);
    const int64_t end = PartBegin(size, place.size, rank + 1);
    return std::pair<char*, int64_t>(data + (b * block + begin) * width, end - begin);
  };
  for (int64_t b = 0; b <= num_blocks; ++b) {
    Phase& phase = schedule.emplace_back();
    for (const int peer : Peers(place)) {
      if (b > 0) {
        const auto [own, own_size] = slice(b - 1, place.rank);
        const auto [theirs, their_size] = slice(b - 1, peer);
        AddSend(phase, peer, own, own_size * width, false);
        AddRecv(phase, peer, theirs, their_size * width, false);
      }
      if (b < num_blocks) {
        const auto [theirs, their_size] = slice(b, peer);
        const int64_t own_bytes = slice(b, place.rank).second * width;
        AddSend(phase, peer, theirs, their_size * width, b == 0);
        AddRecv(phase, peer, ScratchSlot(place, scratch, peer, own_bytes), own_bytes, b == 0);
      }
    }
    if (b == num_blocks) break;
    const auto [own, own_size] = slice(b, place.rank);
    phase.then = ReduceStep(place, reduction, scratch, own, own, own_size);
  }
  return schedule;
}

Schedule ReduceScatterSchedule(Place place, char* input, char* output,
                               absl::Span<const int64_t> counts, const Reduction& reduction,
                               int64_t block_bytes, char* scratch) {
  const int64_t width = DTypeSize(reduction.dtype);
  const std::vector<int64_t> offsets = Offsets(counts);
  const int64_t block =
      std::max(BlockElements(reduction.dtype, block_bytes) / place.size, kInlineBytes / width);
  const int64_t largest = *std::max_element(counts.begin(), counts.end());
  const int64_t num_blocks = std::max<int64_t>(1, (largest + block - 1) / block);
  const auto slice = [&](int64_t b, int rank) {
    const int64_t begin = std::min(b * block, counts[rank]);
    const int64_t end = std::min((b + 1) * block, counts[rank]);
    return std::pair<char*, int64_t>(input + (offsets[rank] + begin) * width, end - begin);
  };
  Schedule schedule;
  for (int64_t b = 0; b < num_blocks; ++b) {
    Phase& phase = schedule.emplace_back();
    const auto [own, own_size] = slice(b, place.rank);
    for (const int peer : Peers(place)) {
      const auto [theirs, their_size] = slice(b, peer);
      AddSend(phase, peer, theirs, their_size * width, b == 0);
      AddRecv(phase, peer, ScratchSlot(place, scratch, peer, own_size * width), own_size * width,
              b == 0);
    }
    const int64_t done = std::min(b * block, counts[place.rank]);
    phase.then = ReduceStep(place, reduction, scratch, own, output + done * width, own_size);
  }
  return schedule;
}

Schedule AllGatherSchedule(Place place, char* input, char* output,
                           absl::Span<const int64_t> counts) {
  const std::vector<int64_t> offsets = Offsets(counts);
  Schedule schedule(1);
  const int64_t own_bytes = counts[place.rank];
  for (const int peer : Peers(place)) {
    AddSend(schedule[0], peer, input, own_bytes, true);
    AddRecv(schedule[0], peer, output + offsets[peer], counts[peer], true);
  }
  char* own = output + offsets[place.rank];
  schedule[0].then = [=] { Move(own, input, own_bytes); };
  return schedule;
}

Schedule AllToAllSchedule(Place place, char* input, absl::Span<const int64_t> send_counts,
                          char* output, absl::Span<const int64_t> recv_counts) {
  const std::vector<int64_t> send_offsets = Offsets(send_counts);
  const std::vector<int64_t> recv_offsets = Offsets(recv_counts);
  Schedule schedule(1);
  for (const int peer : Peers(place)) {
    AddSend(schedule[0], peer, input + send_offsets[peer], send_counts[peer], true);
    AddRecv(schedule[0], peer, output + recv_offsets[peer], recv_counts[peer], true);
  }
  const char* from = input + send_offsets[place.rank];
  char* to = output + recv_offsets[place.rank];
  const int64_t own_bytes = send_counts[place.rank];
  schedule[0].then = [=] { Move(to, from, own_bytes); };
  return schedule;
}

Schedule BroadcastSchedule(Place place, char* data, int64_t bytes, int root) {
  const bool direct = bytes <= kInlineBytes || place.size == 2;
  // Slices belong to the ranks other than the root, in their order.
  const auto slice = [&](int rank) {
    const int index = rank < root ? rank : rank - 1;
    const int64_t begin = PartBegin(bytes, place.size - 1, index);
    return std::pair<char*, int64_t>(data + begin,
                                     PartBegin(bytes, place.size - 1, index + 1) - begin);
  };
  Schedule schedule(1);
  if (place.rank == root) {
    for (const int peer : Peers(place)) {
      const auto [part, size] = direct ? std::pair(data, bytes) : slice(peer);
      AddSend(schedule[0], peer, part, size, true);
    }
    return schedule;
  }
  const auto [own, own_size] = direct ? std::pair(data, bytes) : slice(place.rank);
  AddRecv(schedule[0], root, own, own_size, true);
  if (direct) return schedule;
  Phase& gather = schedule.emplace_back();
  for (const int peer : Peers(place)) {
    if (peer == root) continue;
    AddSend(gather, peer, own, own_size, true);
    AddRecv(gather, peer, slice(peer).first, slice(peer).second, true);
  }
  return schedule;
}

Schedule BarrierSchedule(Place place) {
  Schedule schedule(1);
  for (const int peer : Peers(place)) {
    AddSend(schedule[0], peer, nullptr, 0, true);
    AddRecv(schedule[0], peer, nullptr, 0, true);
  }
  return schedule;
}

}  // namespace trireme
