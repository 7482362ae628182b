#include "core/device/kernel.h"
#include "core/ops/devices.h"

namespace trireme {

#define KERNEL(Name) void Name##Cpu(Device&, const Name##Args&);
#include "core/ops/kernels.def"
#undef KERNEL

std::unique_ptr<CpuDevice> MakeCpuDevice(const CpuOptions& options) {
  static constexpr KernelTable kTable = {
#define KERNEL(Name) .Name = Name##Cpu,
#include "core/ops/kernels.def"
#undef KERNEL
  };
  return std::make_unique<CpuDevice>(options, kTable);
}

}  // namespace trireme
