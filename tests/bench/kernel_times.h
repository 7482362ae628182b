// A CPU device that notes how long each kernel takes: where the time of a step goes.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/device/cpu/cpu_device.h"

namespace trireme::bench {

struct KernelTime {
  int64_t calls = 0;
  double seconds = 0;  // Without the kernels that it launches itself.
  double flops = 0;    // Of products.
};

// By kernel; products by their shape too.
using KernelTimes = std::map<std::string, KernelTime>;

// A device whose kernels add to `times`, which must outlive it. Kernels are launched by one thread.
std::unique_ptr<CpuDevice> MakeTimedCpuDevice(const CpuOptions& options, KernelTimes* times);

}  // namespace trireme::bench
