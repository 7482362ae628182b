#include "parallel/comm/traffic.h"

#include <algorithm>

#include "parallel/comm/schedule.h"

namespace trireme {

void Traffic::Add(const std::string& axis, const char* purpose, Verb verb, int group_size,
                  int64_t sent_bytes, int64_t calls) {
  Entry& entry = entries[{axis, purpose}];
  entry.verb = verb;
  entry.group_size = group_size;
  entry.calls += calls;
  entry.sent_bytes += sent_bytes;
}

int64_t AllReduceBytes(Place place, int64_t count, DType dtype, int64_t block_bytes) {
  const int64_t width = DTypeSize(dtype);
  if (count * width <= kInlineBytes) return (place.size - 1) * count * width;
  // Of each block: all but this rank's slice to its owners, then the slice to all others.
  const int64_t block = std::max<int64_t>(1, block_bytes / width);
  int64_t own = 0;
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t size = std::min(block, count - begin);
    own += PartBegin(size, place.size, place.rank + 1) - PartBegin(size, place.size, place.rank);
  }
  return (count + (place.size - 2) * own) * width;
}

int64_t ReduceScatterBytes(Place place, absl::Span<const int64_t> counts, DType dtype) {
  int64_t all = 0;
  for (const int64_t count : counts) all += count;
  return (all - counts[place.rank]) * DTypeSize(dtype);
}

int64_t AllGatherBytes(Place place, absl::Span<const int64_t> counts, DType dtype) {
  return (place.size - 1) * counts[place.rank] * DTypeSize(dtype);
}

}  // namespace trireme
