#include "core/device/cuda/cuda_status.h"

#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"

#include "core/device/cuda/check.h"

namespace trireme {
namespace {

std::string Version(int number) { return absl::StrCat(number / 1000, ".", number % 1000 / 10); }

Status DriverTooOld() {
  int driver = 0, runtime = 0;
  // Both work without a usable driver; when they do not, the message shows 0.0.
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
  return absl::UnavailableError(
      absl::StrCat("the CUDA driver is for CUDA ", Version(driver), ", this program needs ",
                   Version(runtime), "; update the driver, or train with --set device=cpu"));
}

}  // namespace

Status CudaStatus(cudaError_t code, const char* call, const char* file, int line) {
  const std::string where = absl::StrCat(call, " at ", file, ":", line, ": ",
                                         cudaGetErrorName(code), ", ", cudaGetErrorString(code));
  switch (code) {
    case cudaSuccess:
      return absl::OkStatus();
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(where);
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
      return DriverTooOld();
    case cudaErrorNoDevice:
      return absl::UnavailableError(
          "no GPU is visible to CUDA (CUDA_VISIBLE_DEVICES, the job's request for GPUs); train "
          "with "
          "--set device=cpu to use the processor");
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorContained:
      return absl::UnavailableError(
          absl::StrCat("the GPU is lost (", where,
                       "); the machine's log (dmesg, Xid) says why. Start again from "
                       "the last checkpoint, without this GPU"));
    default:
      return absl::InternalError(where);
  }
}

void ThrowCudaError(cudaError_t code, const char* call, const char* file, int line) {
  throw Failure(CudaStatus(code, call, file, line));
}

}  // namespace trireme
