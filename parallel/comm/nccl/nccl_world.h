// What the communicators of one rank's world share.
#pragma once

#include "core/device/cpu/cpu_device.h"
#include "core/device/cuda/cuda_device.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/journal.h"
#include "parallel/comm/nccl/watchdog.h"

namespace trireme {

struct NcclWorld {
  NcclWorld(CudaDevice& device, Communicator& control, const CommOptions& options);

  CudaDevice& device;
  Communicator& control;  // Of all ranks; its Abort ends the job.
  const CommOptions options;
  CpuDevice host;  // Of the tensors that set up lanes; it has no kernels.
  Journal journal;
  Watchdog watchdog;
};

}  // namespace trireme
