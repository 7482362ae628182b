#include "core/device/cpu/cpu_device.h"

#include <cstring>

#include "core/base/log.h"
#include "core/device/cpu/host_memory.h"

namespace trireme {

CpuDevice::CpuDevice(const CpuOptions& options, const KernelTable& kernels)
    : Device(kernels),
      allocator_(std::make_unique<HostMemory>(), options.memory_limit_bytes),
      pool_(options.num_threads) {}

StatusOr<Block> CpuDevice::Allocate(size_t bytes, MemoryKind kind, absl::string_view label) {
  return allocator_.Allocate(bytes, kind, label);
}

void CpuDevice::Free(const Block& block) { allocator_.Free(block); }

StatusOr<Block> CpuDevice::AllocatePinned(size_t bytes) {
  return allocator_.Allocate(bytes, MemoryKind::kCommunication, "pinned");
}

std::unique_ptr<Queue> CpuDevice::NewQueue(absl::string_view) { return std::make_unique<Queue>(); }

std::unique_ptr<Event> CpuDevice::Record(Queue&) { return std::make_unique<Event>(); }

void CpuDevice::Wait(Queue&, const Event&) {}

void CpuDevice::Copy(void* dst, const void* src, size_t bytes, Queue&) {
  if (bytes > 0) std::memcpy(dst, src, bytes);
}

CpuDevice& AsCpu(Device& device) {
  CHECK(device.name() == "cpu") << "a CPU kernel was launched on " << device.name();
  return static_cast<CpuDevice&>(device);
}

}  // namespace trireme
