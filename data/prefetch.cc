#include "data/prefetch.h"

#include <utility>

#include "core/base/log.h"

namespace trireme {

Prefetcher::Prefetcher(MakeBatch make, int64_t begin, int64_t end, int capacity)
    : make_(std::move(make)), capacity_(capacity) {
  CHECK_GT(capacity, 0);
  thread_ = std::thread([this, begin, end, rank = LogRank()] {
    SetLogRank(rank);
    Run(begin, end);
  });
}

Prefetcher::~Prefetcher() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::Run(int64_t begin, int64_t end) {
  for (int64_t i = begin;; ++i) {
    StatusOr<HostBatch> batch = absl::OutOfRangeError("no batch is left");
    if (i < end) {
      const Status status = CatchFailure([&] { batch = make_(i); });
      if (!status.ok()) batch = status;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return stopped_ || ready_.size() < capacity_; });
    if (stopped_) return;
    const bool last = !batch.ok();
    ready_.push_back(std::move(batch));
    lock.unlock();
    changed_.notify_all();
    if (last) return;
  }
}

StatusOr<HostBatch> Prefetcher::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty(); });
  if (!ready_.front().ok()) return ready_.front().status();
  StatusOr<HostBatch> batch = std::move(ready_.front());
  ready_.pop_front();
  lock.unlock();
  changed_.notify_all();
  return batch;
}

}  // namespace trireme
