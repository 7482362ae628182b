// The thread that watches NCCL: calls that fail or that nobody answers would hang the device, and
// the rank with it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/time.h"

#include "core/device/cuda/cuda_device.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/journal.h"
#include "parallel/comm/nccl/nccl_lane.h"

namespace trireme {

class Watchdog {
 public:
  // `control` is of the host; when a rank aborts it, the lanes end too.
  Watchdog(CudaDevice& device, const Communicator& control, Journal& journal,
           absl::Duration deadline);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void Watch(const std::shared_ptr<NcclLane>& lane);
  // The first failure, of NCCL or from outside, aborts all lanes, and the device reports it.
  void Fail(const Status& status);
  Status failed() const;

 private:
  void Run();
  std::vector<std::shared_ptr<NcclLane>> Lanes();

  CudaDevice& device_;
  const Communicator& control_;
  Journal& journal_;
  const absl::Duration deadline_;
  mutable std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  Status failed_;
  std::vector<std::weak_ptr<NcclLane>> lanes_;
  std::thread thread_;
};

}  // namespace trireme
