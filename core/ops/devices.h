// Devices with their kernel tables.
#pragma once

#include <memory>

#include "core/base/status.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cuda/options.h"

namespace trireme {

std::unique_ptr<CpuDevice> MakeCpuDevice(const CpuOptions& options = {});

// UNAVAILABLE, with the reason in a line, when this build has no CUDA, or this machine no driver,
// one that is too old, or no GPU.
StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const CudaOptions& options);

}  // namespace trireme
