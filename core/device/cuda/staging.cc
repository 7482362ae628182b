#include "core/device/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "core/base/log.h"
#include "core/device/cuda/cuda_status.h"

namespace trireme {

Status Staging::Init() {
  void* memory = nullptr;
  CUDA_OR_RETURN(cudaHostAlloc(&memory, kNumSlots * kSlotBytes, cudaHostAllocDefault));
  memory_ = static_cast<char*>(memory);
  for (cudaEvent_t& sent : sent_) {
    CUDA_OR_RETURN(cudaEventCreateWithFlags(&sent, cudaEventDisableTiming));
  }
  return absl::OkStatus();
}

Staging::~Staging() {
  for (const cudaEvent_t sent : sent_) {
    if (sent != nullptr) CUDA_OR_LOG(cudaEventDestroy(sent));
  }
  if (memory_ != nullptr) CUDA_OR_LOG(cudaFreeHost(memory_));
}

Status Staging::CopyToDevice(void* dst, const void* src, size_t bytes, cudaStream_t stream) {
  for (size_t at = 0; at < bytes; at += kSlotBytes) {
    const size_t count = std::min(kSlotBytes, bytes - at);
    char* slot = memory_ + next_ * kSlotBytes;
    CUDA_OR_RETURN(cudaEventSynchronize(sent_[next_]));  // An event not yet recorded has happened.
    std::memcpy(slot, static_cast<const char*>(src) + at, count);
    CUDA_OR_RETURN(
        cudaMemcpyAsync(static_cast<char*>(dst) + at, slot, count, cudaMemcpyHostToDevice, stream));
    CUDA_OR_RETURN(cudaEventRecord(sent_[next_], stream));
    next_ = (next_ + 1) % kNumSlots;
  }
  return absl::OkStatus();
}

}  // namespace trireme
