#include "parallel/comm/nccl/watchdog.h"

#include <chrono>

#include "absl/time/clock.h"

namespace trireme {
namespace {

constexpr std::chrono::milliseconds kPause(20);

}  // namespace

Watchdog::Watchdog(CudaDevice& device, const Communicator& control, Journal& journal,
                   absl::Duration deadline)
    : device_(device), control_(control), journal_(journal), deadline_(deadline), thread_([this] {
        Run();
      }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void Watchdog::Watch(const std::shared_ptr<NcclLane>& lane) {
  const std::lock_guard<std::mutex> lock(mutex_);
  lanes_.push_back(lane);
}

Status Watchdog::failed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failed_;
}

std::vector<std::shared_ptr<NcclLane>> Watchdog::Lanes() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<NcclLane>> lanes;
  std::erase_if(lanes_, [](const std::weak_ptr<NcclLane>& lane) { return lane.expired(); });
  for (const std::weak_ptr<NcclLane>& lane : lanes_) {
    if (auto alive = lane.lock()) lanes.push_back(std::move(alive));
  }
  return lanes;
}

void Watchdog::Fail(const Status& status) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failed_.ok()) return;
    failed_ = status;
  }
  // Before the lanes: what waits for their kernels goes on when they return, and must find this.
  device_.Fail(status);
  for (const auto& lane : Lanes()) lane->Abort(status);
}

void Watchdog::Run() {
  const Status current = CatchFailure([&] { device_.MakeCurrent(); });
  if (!current.ok()) Fail(current);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_.wait_for(lock, kPause, [&] { return stopping_; })) {
    lock.unlock();
    if (const Status aborted = control_.aborted(); !aborted.ok()) Fail(aborted);
    for (const auto& lane : Lanes()) {
      const Status status = lane->Poll(journal_, absl::Now(), deadline_);
      if (!status.ok()) Fail(status);
    }
    lock.lock();
  }
}

}  // namespace trireme
