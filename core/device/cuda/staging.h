// Pinned memory that pageable host memory passes through on its way to the device, so that a copy
// is queued without waiting for the work before it.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>

#include "core/base/status.h"

namespace trireme {

class Staging {
 public:
  static constexpr int kNumSlots = 4;
  static constexpr size_t kSlotBytes = size_t{1} << 20;

  Staging() = default;
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  Status Init();
  // Queues copies of `bytes` from pageable memory; the source may be reused on return. Waits only
  // when all slots are on their way.
  Status CopyToDevice(void* dst, const void* src, size_t bytes, cudaStream_t stream);

 private:
  char* memory_ = nullptr;
  std::array<cudaEvent_t, kNumSlots> sent_ = {};
  int next_ = 0;
};

}  // namespace trireme
