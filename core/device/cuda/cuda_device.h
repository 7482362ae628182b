// A GPU. Memory is handed out in the order of the compute stream: a block that is freed may be
// handed out again at once, since what used it is queued before what will. Whoever uses a block on
// another stream keeps it until the compute stream has waited for that.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <typeindex>
#include <unordered_map>

#include "core/device/caching_allocator.h"
#include "core/device/cuda/faults.h"
#include "core/device/cuda/options.h"
#include "core/device/cuda/staging.h"
#include "core/device/device.h"

namespace trireme {

class CudaQueue : public Queue {
 public:
  static StatusOr<std::unique_ptr<CudaQueue>> Create();
  ~CudaQueue() override;
  cudaStream_t stream() const { return stream_; }

 private:
  explicit CudaQueue(cudaStream_t stream) : stream_(stream) {}
  const cudaStream_t stream_;
};

class CudaEvent : public Event {
 public:
  static StatusOr<std::unique_ptr<CudaEvent>> Record(cudaStream_t stream);
  ~CudaEvent() override;
  cudaEvent_t event() const { return event_; }

 private:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  const cudaEvent_t event_;
};

class CudaDevice : public Device {
 public:
  static StatusOr<std::unique_ptr<CudaDevice>> Create(const CudaOptions& options,
                                                      const KernelTable& kernels);
  ~CudaDevice() override;

  absl::string_view name() const override { return name_; }
  std::string id() const override { return uuid_; }
  StatusOr<Block> Allocate(size_t bytes, MemoryKind kind, absl::string_view label) override;
  void Free(const Block& block) override;
  StatusOr<Block> AllocatePinned(size_t bytes) override;
  Queue& compute() override { return *compute_; }
  std::unique_ptr<Queue> NewQueue(absl::string_view name) override;
  std::unique_ptr<Event> Record(Queue& queue) override;
  void Wait(Queue& queue, const Event& event) override;
  void Copy(void* dst, const void* src, size_t bytes, Queue& queue) override;
  Status Synchronize() override;
  MemoryStats stats() const override { return allocator_->stats(); }
  void ResetPeaks() override { allocator_->ResetPeaks(); }

  // What happens beside the compute stream and spoils its work, a collective that was aborted say:
  // the first is what Synchronize returns from now on. Thread-safe.
  void Fail(const Status& status);

  // CUDA's idea of the device to use belongs to each thread. Calls that need one call this first.
  void MakeCurrent() const;
  cudaStream_t stream() const { return compute_->stream(); }
  // Where kernels go: the compute stream, but for the life of a StreamScope.
  cudaStream_t launch_stream() const { return launch_stream_; }
  int num_multiprocessors() const { return num_multiprocessors_; }
  bool allow_tf32() const { return options_.allow_tf32; }
  DeviceFaults* faults() const { return faults_; }

  // What a family of kernels keeps between launches: see DeviceState in services.h.
  void* State(std::type_index type, const std::function<std::shared_ptr<void>()>& make);

 private:
  friend class StreamScope;
  CudaDevice(const CudaOptions& options, const KernelTable& kernels)
      : Device(kernels), options_(options) {}
  Status Init();
  Status TakeFault();

  const CudaOptions options_;
  int ordinal_ = 0;
  std::string name_, uuid_;
  int num_multiprocessors_ = 0;
  std::unique_ptr<CudaQueue> compute_;
  cudaStream_t launch_stream_ = nullptr;
  std::unique_ptr<CachingAllocator> allocator_;
  std::unique_ptr<CachingAllocator> pinned_;
  Staging staging_;
  DeviceFaults* faults_ = nullptr;  // Pinned: kernels write it, the host reads it.
  std::mutex failed_mutex_;
  Status failed_;
  std::mutex states_mutex_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> states_;
};

// Kernels launched in its scope go to another stream. What they use must be kept until the compute
// stream has waited for that stream. For the thread of the rank.
class StreamScope {
 public:
  StreamScope(CudaDevice& device, cudaStream_t stream) : device_(device) {
    device_.launch_stream_ = stream;
  }
  ~StreamScope() { device_.launch_stream_ = device_.stream(); }
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  CudaDevice& device_;
};

// The GPU behind a device. CHECKs that it is one.
CudaDevice& AsCuda(Device& device);
// Which of `count` devices a rank takes.
StatusOr<int> ChooseDevice(const CudaOptions& options, int count);

}  // namespace trireme
