// The CPU: a caching allocator and a pool of threads. Queues run at once.
#pragma once

#include <memory>
#include <mutex>
#include <typeindex>
#include <unordered_map>

#include "absl/functional/function_ref.h"

#include "core/device/caching_allocator.h"
#include "core/device/cpu/thread_pool.h"
#include "core/device/device.h"

namespace trireme {

struct CpuOptions {
  int num_threads = 1;
  int64_t memory_limit_bytes = 0;  // 0: what the system gives.
};

class CpuDevice : public Device {
 public:
  CpuDevice(const CpuOptions& options, const KernelTable& kernels);

  absl::string_view name() const override { return "cpu"; }
  StatusOr<Block> Allocate(size_t bytes, MemoryKind kind, absl::string_view label) override;
  void Free(const Block& block) override;
  StatusOr<Block> AllocatePinned(size_t bytes) override;
  Queue& compute() override { return queue_; }
  std::unique_ptr<Queue> NewQueue(absl::string_view name) override;
  std::unique_ptr<Event> Record(Queue& queue) override;
  void Wait(Queue& queue, const Event& event) override;
  void Copy(void* dst, const void* src, size_t bytes, Queue& queue) override;
  Status Synchronize() override { return absl::OkStatus(); }
  MemoryStats stats() const override { return allocator_.stats(); }
  void ResetPeaks() override { allocator_.ResetPeaks(); }

  int num_threads() const { return pool_.num_threads(); }

  // Calls fn(begin, end) over [0, n) cut into tiles of `grain` (the last may be shorter). Tiles
  // depend on n and grain only, never on the number of threads, so that threads never change bits.
  void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> fn) {
    pool_.ParallelFor(n, grain, fn);
  }

  // What a family of kernels keeps between launches, a cache of compiled primitives say: one T a
  // device, made on first use, destroyed with it. Thread-safe.
  template <typename T>
  T& State() {
    const std::lock_guard<std::mutex> lock(states_mutex_);
    std::shared_ptr<void>& state = states_[std::type_index(typeid(T))];
    if (state == nullptr) state = std::make_shared<T>();
    return *static_cast<T*>(state.get());
  }

 private:
  Queue queue_;
  CachingAllocator allocator_;
  std::mutex states_mutex_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> states_;
  ThreadPool pool_;
};

// The CPU behind a kernel's device. CHECKs that it is one.
CpuDevice& AsCpu(Device& device);

}  // namespace trireme
