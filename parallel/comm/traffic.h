// Traffic: what a rank is going to send, by axis and purpose, with the bytes of each verb in closed
// form. What the journal counts while a program runs, known before it does.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/types/span.h"

#include "core/tensor/dtype.h"
#include "parallel/comm/journal.h"
#include "parallel/comm/place.h"

namespace trireme {

struct Traffic {
  struct Entry {
    Verb verb = Verb::kSend;
    int group_size = 0;
    int64_t calls = 0;
    int64_t sent_bytes = 0;
  };

  void Add(const std::string& axis, const char* purpose, Verb verb, int group_size,
           int64_t sent_bytes, int64_t calls = 1);

  std::map<std::pair<std::string, std::string>, Entry> entries;  // By (axis, purpose).
};

// Payload bytes that the rank at `place` sends in one call. Of n bytes over k ranks, equal parts
// each:
//   AllReduce 2 (k - 1) n / k, but (k - 1) n of a kilobyte or less;  ReduceScatter, AllGather (k -
//   1) n / k
int64_t AllReduceBytes(Place place, int64_t count, DType dtype, int64_t block_bytes);
// counts: elements of each rank's part.
int64_t ReduceScatterBytes(Place place, absl::Span<const int64_t> counts, DType dtype);
int64_t AllGatherBytes(Place place, absl::Span<const int64_t> counts, DType dtype);

}  // namespace trireme
