// Makes batches ahead of their use, in order, on one thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "core/base/status.h"
#include "core/batch.h"

namespace trireme {

// For one consumer thread. The destructor drops what is queued; it waits for the batch that is
// being made, never for more.
class Prefetcher {
 public:
  // make(i) is called for i = begin, begin + 1, ... end - 1 on the prefetching thread, at most
  // `capacity` batches ahead of Next(). A Failure it throws becomes its status. CHECKs capacity >
  // 0.
  using MakeBatch = std::function<StatusOr<HostBatch>(int64_t)>;
  Prefetcher(MakeBatch make, int64_t begin, int64_t end, int capacity);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Batch `begin` on the first call, then each following one; the first error ends the sequence and
  // is returned from then on, OUT_OF_RANGE after batch end - 1.
  StatusOr<HostBatch> Next();

 private:
  void Run(int64_t begin, int64_t end);

  MakeBatch make_;
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<StatusOr<HostBatch>> ready_;  // Only the last may be an error.
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace trireme
