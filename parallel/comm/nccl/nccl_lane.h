// A lane: an NCCL communicator with a stream of its own, in which its calls run one after the
// other.
#pragma once

#include <nccl.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/time/time.h"

#include "core/device/cuda/cuda_device.h"
#include "parallel/comm/journal.h"

namespace trireme {

// A call that was queued. `done` has happened when its stream has passed it.
struct NcclCall {
  std::string text;  // "all_reduce 'gradients' along replica"
  int64_t ticket = 0;
  absl::Time queued;
  std::shared_ptr<CudaEvent> done;
};

class NcclLane {
 public:
  // Rank `rank` of `size`; all of them make it at the same time. `name` is for errors.
  // DEADLINE_EXCEEDED when the others do not come.
  static StatusOr<std::unique_ptr<NcclLane>> Create(CudaDevice& device, const ncclUniqueId& id,
                                                    int rank, int size, const std::string& name,
                                                    absl::Duration deadline);
  // Abort was called, or the calls are done.
  ~NcclLane();
  NcclLane(const NcclLane&) = delete;
  NcclLane& operator=(const NcclLane&) = delete;

  const std::string& name() const { return name_; }
  ncclComm_t comm() const { return comm_; }
  cudaStream_t stream() const { return queue_->stream(); }

  // Queues what `steps` puts on the lane's stream, after all that is on the compute stream now. The
  // event is that of its end. `ticket` is the call's in the journal.
  StatusOr<std::shared_ptr<CudaEvent>> Run(const std::string& text, int64_t ticket,
                                           const std::function<Status()>& steps);
  // In steps: queues what `calls` asks of NCCL, all at once.
  Status Group(const std::function<Status()>& calls);

  // For the watchdog. What went wrong in NCCL, or since when the oldest call has been waiting;
  // the journal learns which calls are done.
  Status Poll(Journal& journal, absl::Time now, absl::Duration deadline);
  // Gives up what is under way: its kernels return. Later calls fail with `status`. Thread-safe.
  void Abort(const Status& status);

 private:
  NcclLane(CudaDevice& device, std::string name) : device_(device), name_(std::move(name)) {}
  Status WaitUntilReady(absl::Duration deadline);

  CudaDevice& device_;
  const std::string name_;
  std::unique_ptr<CudaQueue> queue_;
  std::mutex mutex_;  // Guards the rest: the watchdog aborts while the rank calls.
  ncclComm_t comm_ = nullptr;
  Status failed_;
  std::deque<NcclCall> under_way_;
};

}  // namespace trireme
