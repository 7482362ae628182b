#include "parallel/comm/nccl/nccl_lane.h"

#include <cuda_runtime.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/device/cuda/cuda_status.h"
#include "parallel/comm/nccl/nccl_status.h"

namespace trireme {
namespace {

// Queueing a group may connect peers, which takes seconds at worst.
constexpr absl::Duration kQueueing = absl::Seconds(60);
constexpr absl::Duration kLingering = absl::Seconds(1);

}  // namespace

Status NcclStatus(ncclResult_t code, const char* call, const char* file, int line) {
  return absl::InternalError(absl::StrCat(call, " at ", file, ":", line, ": ",
                                          ncclGetErrorString(code), ": ",
                                          ncclGetLastError(nullptr)));
}

StatusOr<std::unique_ptr<NcclLane>> NcclLane::Create(CudaDevice& device, const ncclUniqueId& id,
                                                     int rank, int size, const std::string& name,
                                                     absl::Duration deadline) {
  std::unique_ptr<NcclLane> lane(new NcclLane(device, name));
  device.MakeCurrent();
  ASSIGN_OR_RETURN(lane->queue_, CudaQueue::Create());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  NCCL_OR_RETURN(ncclCommInitRankConfig(&lane->comm_, size, id, rank, &config));
  RETURN_IF_ERROR(lane->WaitUntilReady(deadline));
  return lane;
}

// Calls of a non-blocking communicator go on in the background; it takes the next when they are
// done.
Status NcclLane::WaitUntilReady(absl::Duration deadline) {
  const absl::Time end = absl::Now() + deadline;
  absl::Duration pause = absl::Microseconds(10);
  for (;;) {
    ncclResult_t state = ncclSuccess;
    NCCL_OR_RETURN(ncclCommGetAsyncError(comm_, &state));
    if (state == ncclSuccess) return absl::OkStatus();
    if (state != ncclInProgress) {
      return Annotate(NcclStatus(state, "ncclCommGetAsyncError", __FILE__, __LINE__), name_);
    }
    if (absl::Now() > end) {
      return absl::DeadlineExceededError(
          absl::StrCat(name_, ": not all ranks came within ", absl::FormatDuration(deadline)));
    }
    absl::SleepFor(pause);
    pause = std::min(2 * pause, absl::Milliseconds(5));
  }
}

NcclLane::~NcclLane() {
  // Peers may need what is under way; one that has failed leaves us alone with it.
  const absl::Time end = absl::Now() + kLingering;
  cudaError_t left = queue_ != nullptr ? cudaStreamQuery(stream()) : cudaSuccess;
  for (; left == cudaErrorNotReady && absl::Now() < end; left = cudaStreamQuery(stream())) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  if (left != cudaErrorNotReady) CUDA_OR_LOG(left);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (comm_ == nullptr) return;
  // Finalizing waits for the peers, who may not end now.
  const ncclResult_t code = ncclCommAbort(comm_);
  if (code != ncclSuccess) LOG(ERROR) << name_ << ": " << ncclGetErrorString(code);
}

StatusOr<std::shared_ptr<CudaEvent>> NcclLane::Run(const std::string& text, int64_t ticket,
                                                   const std::function<Status()>& steps) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RETURN_IF_ERROR(failed_);
  device_.MakeCurrent();
  ASSIGN_OR_RETURN(const std::unique_ptr<CudaEvent> before, CudaEvent::Record(device_.stream()));
  CUDA_OR_RETURN(cudaStreamWaitEvent(stream(), before->event(), 0));
  {
    const StreamScope scope(device_, stream());
    RETURN_IF_ERROR(steps());
  }
  ASSIGN_OR_RETURN(std::shared_ptr<CudaEvent> done, CudaEvent::Record(stream()));
  under_way_.push_back({text, ticket, absl::Now(), done});
  return done;
}

Status NcclLane::Group(const std::function<Status()>& calls) {
  NCCL_OR_RETURN(ncclGroupStart());
  const Status called = calls();
  NCCL_OR_RETURN(ncclGroupEnd());
  RETURN_IF_ERROR(called);
  return WaitUntilReady(kQueueing);
}

Status NcclLane::Poll(Journal& journal, absl::Time now, absl::Duration deadline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (comm_ == nullptr) return absl::OkStatus();
  while (!under_way_.empty()) {
    const cudaError_t code = cudaEventQuery(under_way_.front().done->event());
    if (code == cudaErrorNotReady) break;
    RETURN_IF_ERROR(CUDA_STATUS_OF(code, "cudaEventQuery"));
    journal.SetState(under_way_.front().ticket, CallState::kDone);
    under_way_.pop_front();
  }
  ncclResult_t state = ncclSuccess;
  NCCL_OR_RETURN(ncclCommGetAsyncError(comm_, &state));
  const std::string what = under_way_.empty() ? name_ : under_way_.front().text;
  if (state != ncclSuccess && state != ncclInProgress) {
    return Annotate(NcclStatus(state, "ncclCommGetAsyncError", __FILE__, __LINE__), what);
  }
  if (!under_way_.empty() && now - under_way_.front().queued > deadline) {
    return absl::DeadlineExceededError(
        absl::StrCat(what, ": not done within ", absl::FormatDuration(deadline),
                     "; a rank of it did not come, or called something else"));
  }
  return absl::OkStatus();
}

void NcclLane::Abort(const Status& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (comm_ == nullptr) return;
  failed_ = status;
  under_way_.clear();
  const ncclResult_t code = ncclCommAbort(comm_);
  if (code != ncclSuccess) LOG(ERROR) << name_ << ": " << ncclGetErrorString(code);
  comm_ = nullptr;
}

}  // namespace trireme
