// The CUDA device, out of its plug-in.
#include "core/device/plugin.h"
#include "core/ops/devices.h"

namespace trireme {

StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const CudaOptions& options) {
  if (options.library == CudaOptions().library && !HasCudaDriver()) {
    return absl::UnavailableError("no CUDA driver (libcuda.so.1) on this machine");
  }
  ASSIGN_OR_RETURN(void* const make, PluginSymbol(options.library, "trireme_make_cuda_device"));
  StatusOr<std::unique_ptr<Device>> device;
  reinterpret_cast<void (*)(const CudaOptions&, StatusOr<std::unique_ptr<Device>>*)>(make)(options,
                                                                                           &device);
  return device;
}

}  // namespace trireme
