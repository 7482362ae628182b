// The CUDA runtime: memory and copies. Pageable memory is read during the call and is written
// before it returns; pinned memory when the work runs, so who reads or reuses it too early is
// found.
#include <cstring>
#include <memory>
#include <vector>

#include "core/device/cuda/block_hooks.h"
#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/fault_injection.h"
#include "tests/cuda_emulation/runtime.h"

using trireme::emulation::EmulatedDevice;
using trireme::emulation::Machine;
using trireme::emulation::Return;
using trireme::emulation::Verdict;

namespace trireme::emulation {
namespace {

cudaError_t CopyWithinDevice(EmulatedDevice& device, void* dst, const void* src, size_t bytes) {
  // What nobody wrote may be copied, and stays so: padding between tensors is.
  DeviceMemory& memory = device.memory;
  const auto from = reinterpret_cast<uintptr_t>(src);
  const auto to = reinterpret_cast<uintptr_t>(dst);
  if (from < to + bytes && to < from + bytes) {
    return Verdict("cudaMemcpyAsync",
                   "copies between ranges that overlap: " + memory.Describe(dst));
  }
  std::string wrong = memory.CheckBounds(src, bytes, "reads");
  if (wrong.empty()) wrong = memory.CheckBounds(dst, bytes, "writes");
  if (!wrong.empty()) return Verdict("cudaMemcpyAsync", wrong);
  memory.shadow().CopyStates(memory.Offset(dst), memory.Offset(src), bytes);
  memcpy(dst, src, bytes);
  return cudaSuccess;
}

cudaError_t CopyToDevice(EmulatedDevice& device, void* dst, const void* src, size_t bytes) {
  const cudaError_t code = Verdict("cudaMemcpyAsync", device.memory.Write(dst, bytes));
  if (code == cudaSuccess) memcpy(dst, src, bytes);
  return code;
}

cudaError_t CopyToHost(EmulatedDevice& device, void* dst, const void* src, size_t bytes) {
  const cudaError_t code = Verdict("cudaMemcpyAsync", device.memory.Read(src, bytes));
  if (code == cudaSuccess) memcpy(dst, src, bytes);
  return code;
}

cudaMemcpyKind KindOf(const void* dst, const void* src) {
  Machine& machine = Machine::Get();
  const bool to_device = machine.DeviceOf(dst) != nullptr;
  const bool from_device = machine.DeviceOf(src) != nullptr;
  return from_device ? (to_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                     : (to_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
}

}  // namespace
}  // namespace trireme::emulation

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  FAIL_IF_ASKED(Return(cudaErrorMemoryAllocation));
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  *pointer = Machine::Get().current().memory.Allocate(bytes);
  return Return(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* pointer) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (pointer == nullptr) return cudaSuccess;
  Machine& machine = Machine::Get();
  EmulatedDevice* device = machine.DeviceOf(pointer);
  if (device == nullptr) return Return(cudaErrorInvalidValue);
  const cudaError_t code = machine.Wait(*device);  // As the real one does.
  if (!device->memory.Free(pointer)) return Return(cudaErrorInvalidValue);
  return Return(code);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  const auto& memory = Machine::Get().current().memory;
  *total_bytes = memory.capacity();
  *free_bytes = memory.capacity() - memory.allocated();
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  FAIL_IF_ASKED(Return(cudaErrorMemoryAllocation));
  *pointer = bytes == 0 ? nullptr : Machine::Get().pinned().Allocate(bytes);
  return Return(*pointer == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (pointer == nullptr) return cudaSuccess;
  Machine& machine = Machine::Get();
  const cudaError_t code = machine.Wait(machine.current());
  if (!machine.pinned().Free(pointer)) return Return(cudaErrorInvalidValue);
  return Return(code);
}

cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* pointer, unsigned) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (!Machine::Get().pinned().Contains(pointer)) return Return(cudaErrorInvalidValue);
  *device_pointer = pointer;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  *attributes = {};
  Machine& machine = Machine::Get();
  EmulatedDevice* device = machine.DeviceOf(pointer);
  attributes->device = device != nullptr ? device->index : machine.current_index();
  attributes->hostPointer = const_cast<void*>(device == nullptr ? pointer : nullptr);
  if (device != nullptr || machine.pinned().Contains(pointer)) {
    attributes->type = device != nullptr ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    attributes->devicePointer = const_cast<void*>(pointer);
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t handle) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  namespace emulation = trireme::emulation;
  if (bytes == 0) return cudaSuccess;
  const cudaMemcpyKind found = emulation::KindOf(dst, src);
  if (kind != cudaMemcpyDefault && kind != found) return Return(cudaErrorInvalidValue);
  Machine& machine = Machine::Get();
  CUstream_st& stream = machine.Stream(handle);
  EmulatedDevice& device = *stream.device;
  const char* name = "cudaMemcpyAsync";
  switch (found) {
    case cudaMemcpyDeviceToDevice:
      return Return(machine.Enqueue(stream, {name, [&device, dst, src, bytes] {
                                               return emulation::CopyWithinDevice(device, dst, src,
                                                                                  bytes);
                                             }}));
    case cudaMemcpyHostToDevice:
      if (machine.pinned().Contains(src, bytes)) {
        return Return(machine.Enqueue(stream, {name, [&device, dst, src, bytes] {
                                                 return emulation::CopyToDevice(device, dst, src,
                                                                                bytes);
                                               }}));
      } else {
        const auto* begin = static_cast<const unsigned char*>(src);
        auto captured = std::make_shared<std::vector<unsigned char>>(begin, begin + bytes);
        return Return(machine.Enqueue(stream, {name, [&device, dst, captured] {
                                                 return emulation::CopyToDevice(device, dst,
                                                                                captured->data(),
                                                                                captured->size());
                                               }}));
      }
    case cudaMemcpyDeviceToHost: {
      const cudaError_t code =
          machine.Enqueue(stream, {name, [&device, dst, src, bytes] {
                                     return emulation::CopyToHost(device, dst, src, bytes);
                                   }});
      if (code != cudaSuccess || machine.pinned().Contains(dst, bytes)) return Return(code);
      return Return(machine.Wait(stream));
    }
    default: {
      const cudaError_t code = machine.Enqueue(stream, {name, [dst, src, bytes] {
                                                          memcpy(dst, src, bytes);
                                                          return cudaSuccess;
                                                        }});
      return Return(code == cudaSuccess ? machine.Wait(stream) : code);
    }
  }
}

cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  const cudaError_t code = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
  return code == cudaSuccess ? cudaStreamSynchronize(nullptr) : code;
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t handle) {
  FAIL_IF_ASKED(Return(cudaErrorUnknown));
  if (bytes == 0) return cudaSuccess;
  Machine& machine = Machine::Get();
  CUstream_st& stream = machine.Stream(handle);
  EmulatedDevice& device = *stream.device;
  if (machine.DeviceOf(pointer) == nullptr) return Return(cudaErrorInvalidValue);
  return Return(machine.Enqueue(stream, {"cudaMemsetAsync", [&device, pointer, value, bytes] {
                                           const cudaError_t code =
                                               Verdict("cudaMemsetAsync",
                                                       device.memory.Write(pointer, bytes));
                                           if (code == cudaSuccess) memset(pointer, value, bytes);
                                           return code;
                                         }}));
}

// Of the caching allocator of the plug-in (core/device/cuda/block_hooks.h).
void trireme_device_block_allocated(void* data, size_t bytes, cudaStream_t handle) {
  Machine& machine = Machine::Get();
  CUstream_st& stream = machine.Stream(handle);
  EmulatedDevice& device = *stream.device;
  device.memory.BeginPool(data);
  machine.Enqueue(stream, {"block allocated", [&device, data, bytes] {
                             device.memory.BlockAllocated(data, bytes);
                             return cudaSuccess;
                           }});
}
void trireme_device_block_freed(void* data, size_t bytes, cudaStream_t handle) {
  Machine& machine = Machine::Get();
  CUstream_st& stream = machine.Stream(handle);
  EmulatedDevice& device = *stream.device;
  machine.Enqueue(stream, {"block freed", [&device, data, bytes] {
                             device.memory.BlockFreed(data, bytes);
                             return cudaSuccess;
                           }});
}

}  // extern "C"
