// Journal: the last communications of one rank, for the post-mortem, and the bytes it sent by axis
// and purpose. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace trireme {

enum class Verb : uint8_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kBroadcast,
  kSend,
  kRecv,
  kBarrier,
  kSplit,
};
const char* VerbName(Verb verb);  // "all_reduce"

enum class CallState : uint8_t { kQueued, kRunning, kDone, kFailed };
const char* CallStateName(CallState state);

struct CallRecord {
  Verb verb = Verb::kBarrier;
  std::string purpose;
  std::string axis;
  int64_t number =
      0;  // Counts the collectives of a communicator, or its sends to (receives from) a peer.
  int peer = -1;           // Of a send or receive.
  int64_t sent_bytes = 0;  // So far.
  CallState state = CallState::kQueued;
  absl::Time posted = absl::InfiniteFuture();
  absl::Time started =
      absl::InfiniteFuture();  // Calls posted before it on the same lane were done.
  absl::Time ended = absl::InfiniteFuture();
};

class Journal {
 public:
  explicit Journal(int capacity) : capacity_(capacity) {}

  // The newest `capacity` records, oldest first.
  std::vector<CallRecord> Records() const;
  // One line each: "12:00:01.250 all_reduce #41 gradients, replica: done, 4096 bytes, 0.8ms (waited
  // 2ms)".
  std::string ToString() const;

  // Payload bytes that this rank sent, by (axis, purpose). Never forgets.
  std::map<std::pair<std::string, std::string>, int64_t> SentBytes() const;
  int64_t SentBytes(absl::string_view axis) const;

  // For the engine: a new record's ticket, and its later states.
  int64_t Add(CallRecord record);
  void CountBytes(int64_t ticket, const std::string& axis, const std::string& purpose,
                  int64_t bytes);
  void SetState(int64_t ticket, CallState state);

 private:
  CallRecord* Find(int64_t ticket);

  const int capacity_;
  mutable std::mutex mutex_;
  std::vector<CallRecord> ring_;  // Record `ticket` is at ticket % capacity.
  int64_t next_ticket_ = 0;
  std::map<std::pair<std::string, std::string>, int64_t> sent_bytes_;
};

}  // namespace trireme
