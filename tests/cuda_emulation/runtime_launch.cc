// The CUDA runtime: kernels and the limits of their launches.
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/fault_injection.h"
#include "tests/cuda_emulation/runtime.h"

namespace trireme::emulation {
namespace {

constexpr size_t kSharedWithoutAsking = 48 << 10;
constexpr size_t kMaxParamBytes = 4 << 10;

struct Kernels {
  std::mutex mutex;
  std::unordered_map<const void*, const KernelSignature*> signatures;
  std::map<std::pair<const void*, int>, size_t> max_shared_bytes;  // By kernel and device.
};
Kernels& AllKernels() {
  static Kernels& kernels = *new Kernels;
  return kernels;
}

cudaError_t CheckLimits(const void* kernel, const KernelSignature& signature, const dim3& grid,
                        const dim3& block, size_t shared_bytes, int device) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) {
    return cudaErrorInvalidConfiguration;
  }
  if (grid.x > 2147483647 || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  if (block.x > 1024 || block.y > 1024 || block.z > 64 ||
      uint64_t{block.x} * block.y * block.z > kMaxThreads) {
    return cudaErrorInvalidConfiguration;
  }
  if (signature.total_bytes > kMaxParamBytes) return cudaErrorInvalidValue;
  Kernels& kernels = AllKernels();
  const std::lock_guard<std::mutex> lock(kernels.mutex);
  const auto raised = kernels.max_shared_bytes.find({kernel, device});
  const size_t limit =
      raised != kernels.max_shared_bytes.end() ? raised->second : kSharedWithoutAsking;
  return shared_bytes > limit ? cudaErrorInvalidValue : cudaSuccess;
}

const KernelSignature* FindSignature(const void* kernel) {
  Kernels& kernels = AllKernels();
  const std::lock_guard<std::mutex> lock(kernels.mutex);
  const auto found = kernels.signatures.find(kernel);
  return found == kernels.signatures.end() ? nullptr : found->second;
}

}  // namespace

void RegisterKernel(const void* kernel, const KernelSignature* signature) {
  Kernels& kernels = AllKernels();
  const std::lock_guard<std::mutex> lock(kernels.mutex);
  kernels.signatures[kernel] = signature;
}

}  // namespace trireme::emulation

namespace emulation = trireme::emulation;
using emulation::EmulatedDevice;
using emulation::Machine;
using emulation::Return;

extern "C" {

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** args,
                             size_t shared_bytes, cudaStream_t handle) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  const emulation::KernelSignature* signature = emulation::FindSignature(kernel);
  if (signature == nullptr) return Return(cudaErrorInvalidDeviceFunction);
  Machine& machine = Machine::Get();
  CUstream_st& stream = machine.Stream(handle);
  EmulatedDevice& device = *stream.device;
  if (device.index != machine.current_index()) return Return(cudaErrorInvalidResourceHandle);
  const cudaError_t refused =
      emulation::CheckLimits(kernel, *signature, grid, block, shared_bytes, device.index);
  if (refused != cudaSuccess) return Return(refused);
  auto launch = std::make_shared<emulation::KernelLaunch>(
      emulation::KernelLaunch{kernel, signature, grid, block, shared_bytes, {}});
  launch->params.resize(signature->total_bytes + alignof(std::max_align_t));
  for (int i = 0; i < signature->num_params; ++i) {
    memcpy(launch->params.data() + signature->param_offsets[i], args[i], signature->param_bytes[i]);
  }
  return Return(machine.Enqueue(
      stream, {"cudaLaunchKernel", [&device, launch] { return device.execution.Run(*launch); }}));
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (emulation::FindSignature(kernel) == nullptr) return Return(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > emulation::kMaxSharedBytes) {
    return Return(cudaErrorInvalidValue);
  }
  emulation::Kernels& kernels = emulation::AllKernels();
  const std::lock_guard<std::mutex> lock(kernels.mutex);
  kernels.max_shared_bytes[{kernel, Machine::Get().current_index()}] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (emulation::FindSignature(kernel) == nullptr) return Return(cudaErrorInvalidDeviceFunction);
  *attributes = {};
  attributes->maxThreadsPerBlock = emulation::kMaxThreads;
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  const std::lock_guard<std::mutex> lock(emulation::AllKernels().mutex);
  const auto& raised = emulation::AllKernels().max_shared_bytes;
  const auto found = raised.find({kernel, Machine::Get().current_index()});
  attributes->maxDynamicSharedSizeBytes =
      static_cast<int>(found != raised.end() ? found->second : emulation::kSharedWithoutAsking);
  return cudaSuccess;
}

}  // extern "C"
