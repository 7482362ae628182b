// Devices with their kernel tables.
#pragma once

#include <memory>

#include "core/device/cpu/cpu_device.h"

namespace trireme {

std::unique_ptr<CpuDevice> MakeCpuDevice(const CpuOptions& options = {});

}  // namespace trireme
