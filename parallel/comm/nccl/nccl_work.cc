#include "parallel/comm/nccl/nccl_work.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/device/cuda/cuda_status.h"

namespace trireme {

NcclWork::~NcclWork() {
  if (tensors_.empty()) return;
  // The device may be writing into the tensors: its kernels have to return before they go.
  if (cudaEventQuery(done_->event()) == cudaSuccess) return;
  world_->watchdog.Fail(absl::CancelledError(absl::StrCat(text_, " was given up")));
  CUDA_OR_LOG(cudaEventSynchronize(done_->event()));
}

Status NcclWork::Wait() {
  absl::Duration pause = absl::Microseconds(5);
  for (;;) {
    RETURN_IF_ERROR(world_->watchdog.failed());
    const cudaError_t code = cudaEventQuery(done_->event());
    if (code == cudaSuccess) break;
    if (code != cudaErrorNotReady) return CUDA_STATUS_OF(code, "cudaEventQuery");
    absl::SleepFor(pause);
    pause = std::min(2 * pause, absl::Milliseconds(1));
  }
  return Follow(world_->device.compute());
}

void NcclWork::Join(Queue& queue) {
  ThrowIfError(world_->watchdog.failed());
  ThrowIfError(Follow(queue));
}

Status NcclWork::Follow(Queue& queue) {
  CHECK(&queue == &world_->device.compute()) << "memory belongs to the compute queue";
  world_->device.MakeCurrent();
  CUDA_OR_RETURN(cudaStreamWaitEvent(world_->device.stream(), done_->event(), 0));
  tensors_.clear();
  return absl::OkStatus();
}

}  // namespace trireme
