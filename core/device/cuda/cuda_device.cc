#include "core/device/cuda/cuda_device.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/device/cuda/check.h"
#include "core/device/cuda/cuda_memory.h"
#include "core/device/cuda/cuda_status.h"
#include "core/device/cuda/services.h"

namespace trireme {
namespace {

const char* FaultName(DeviceFaultKind kind) {
  switch (kind) {
    case DeviceFaultKind::kNone:
      break;
    case DeviceFaultKind::kLabelOutOfRange:
      return "label";
    case DeviceFaultKind::kIdOutOfRange:
      return "id";
    case DeviceFaultKind::kIndexOutOfRange:
      return "index";
  }
  return "?";
}

}  // namespace

StatusOr<std::unique_ptr<CudaQueue>> CudaQueue::Create() {
  cudaStream_t stream = nullptr;
  CUDA_OR_RETURN(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return std::unique_ptr<CudaQueue>(new CudaQueue(stream));
}

CudaQueue::~CudaQueue() { CUDA_OR_LOG(cudaStreamDestroy(stream_)); }

StatusOr<std::unique_ptr<CudaEvent>> CudaEvent::Record(cudaStream_t stream) {
  cudaEvent_t made = nullptr;
  CUDA_OR_RETURN(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
  std::unique_ptr<CudaEvent> event(new CudaEvent(made));
  CUDA_OR_RETURN(cudaEventRecord(made, stream));
  return event;
}

CudaEvent::~CudaEvent() { CUDA_OR_LOG(cudaEventDestroy(event_)); }

StatusOr<int> ChooseDevice(const CudaOptions& options, int count) {
  if (options.ordinal < 0) return count == 1 ? 0 : options.local_rank % count;
  if (options.ordinal < count) return options.ordinal;
  return absl::InvalidArgumentError(absl::StrCat("there is no GPU ", options.ordinal, "; ", count,
                                                 count == 1 ? " is visible" : " are visible"));
}

StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Create(const CudaOptions& options,
                                                         const KernelTable& kernels) {
  std::unique_ptr<CudaDevice> device(new CudaDevice(options, kernels));
  RETURN_IF_ERROR(device->Init());
  return device;
}

Status CudaDevice::Init() {
  int count = 0;
  CUDA_OR_RETURN(cudaGetDeviceCount(&count));
  if (count == 0) CUDA_OR_RETURN(cudaErrorNoDevice);
  ASSIGN_OR_RETURN(ordinal_, ChooseDevice(options_, count));
  name_ = absl::StrCat("cuda:", ordinal_);
  CUDA_OR_RETURN(cudaSetDevice(ordinal_));
  cudaDeviceProp properties;
  CUDA_OR_RETURN(cudaGetDeviceProperties(&properties, ordinal_));
  num_multiprocessors_ = properties.multiProcessorCount;
  uuid_ = absl::BytesToHexString(
      absl::string_view(properties.uuid.bytes, sizeof(properties.uuid.bytes)));
  ASSIGN_OR_RETURN(compute_, CudaQueue::Create());
  launch_stream_ = compute_->stream();
  allocator_ = std::make_unique<CachingAllocator>(
      std::make_unique<CudaMemory>(ordinal_, compute_->stream()), options_.memory_limit_bytes);
  pinned_ = std::make_unique<CachingAllocator>(std::make_unique<PinnedMemory>(), 0);
  RETURN_IF_ERROR(staging_.Init());
  void* faults = nullptr;
  CUDA_OR_RETURN(cudaHostAlloc(&faults, sizeof(DeviceFaults), cudaHostAllocMapped));
  faults_ = static_cast<DeviceFaults*>(faults);
  *faults_ = {};
  return absl::OkStatus();
}

// Members that hold device memory go while the stream still exists.
CudaDevice::~CudaDevice() {
  CUDA_OR_LOG(cudaSetDevice(ordinal_));
  if (compute_ != nullptr) CUDA_OR_LOG(cudaStreamSynchronize(stream()));
  states_.clear();
  allocator_.reset();
  pinned_.reset();
  if (faults_ != nullptr) CUDA_OR_LOG(cudaFreeHost(faults_));
}

void CudaDevice::MakeCurrent() const { CUDA_OR_THROW(cudaSetDevice(ordinal_)); }

StatusOr<Block> CudaDevice::Allocate(size_t bytes, MemoryKind kind, absl::string_view label) {
  return allocator_->Allocate(bytes, kind, label);
}

void CudaDevice::Free(const Block& block) {
  (pinned_->Owns(block.data) ? pinned_ : allocator_)->Free(block);
}

StatusOr<Block> CudaDevice::AllocatePinned(size_t bytes) {
  CUDA_OR_RETURN(cudaSetDevice(ordinal_));
  return pinned_->Allocate(bytes, MemoryKind::kCommunication, "pinned");
}

std::unique_ptr<Queue> CudaDevice::NewQueue(absl::string_view) {
  MakeCurrent();
  return ValueOrThrow(CudaQueue::Create());
}

std::unique_ptr<Event> CudaDevice::Record(Queue& queue) {
  MakeCurrent();
  return ValueOrThrow(CudaEvent::Record(static_cast<CudaQueue&>(queue).stream()));
}

void CudaDevice::Wait(Queue& queue, const Event& event) {
  MakeCurrent();
  CUDA_OR_THROW(cudaStreamWaitEvent(static_cast<CudaQueue&>(queue).stream(),
                                    static_cast<const CudaEvent&>(event).event(), 0));
}

void CudaDevice::Copy(void* dst, const void* src, size_t bytes, Queue& queue) {
  if (bytes == 0) return;
  MakeCurrent();
  const cudaStream_t stream = static_cast<CudaQueue&>(queue).stream();
  cudaPointerAttributes from, to;
  CUDA_OR_THROW(cudaPointerGetAttributes(&from, src));
  CUDA_OR_THROW(cudaPointerGetAttributes(&to, dst));
  if (from.type == cudaMemoryTypeUnregistered && to.type == cudaMemoryTypeDevice) {
    ThrowIfError(staging_.CopyToDevice(dst, src, bytes, stream));
  } else {
    CUDA_OR_THROW(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream));
  }
}

Status CudaDevice::Synchronize() {
  CUDA_OR_RETURN(cudaSetDevice(ordinal_));
  const cudaError_t code = cudaStreamSynchronize(stream());
  {
    const std::lock_guard<std::mutex> lock(failed_mutex_);
    RETURN_IF_ERROR(failed_);
  }
  RETURN_IF_ERROR(CUDA_STATUS_OF(code, "cudaStreamSynchronize"));
  return TakeFault();
}

void CudaDevice::Fail(const Status& status) {
  const std::lock_guard<std::mutex> lock(failed_mutex_);
  failed_.Update(status);
}

Status CudaDevice::TakeFault() {
  if (faults_->kind == 0) return absl::OkStatus();
  const DeviceFaults fault = std::exchange(*faults_, DeviceFaults());
  return absl::OutOfRangeError(absl::StrCat(FaultName(static_cast<DeviceFaultKind>(fault.kind)),
                                            " ", fault.value, " is not in [0, ", fault.limit, ")"));
}

void* CudaDevice::State(std::type_index type, const std::function<std::shared_ptr<void>()>& make) {
  const std::lock_guard<std::mutex> lock(states_mutex_);
  std::shared_ptr<void>& state = states_[type];
  if (state == nullptr) state = make();
  return state.get();
}

CudaDevice& AsCuda(Device& device) {
  CHECK(absl::StartsWith(device.name(), "cuda:"))
      << "a CUDA kernel was launched on " << device.name();
  return static_cast<CudaDevice&>(device);
}

// What services.h declares.

cudaStream_t ComputeStream(Device& device) {
  CudaDevice& cuda = AsCuda(device);
  cuda.MakeCurrent();
  return cuda.launch_stream();
}

int NumMultiprocessors(Device& device) { return AsCuda(device).num_multiprocessors(); }

bool AllowTf32(Device& device) { return AsCuda(device).allow_tf32(); }

DeviceFaults* Faults(Device& device) { return AsCuda(device).faults(); }

void* StateOf(Device& device, const std::type_info& type, std::shared_ptr<void> (*make)()) {
  return AsCuda(device).State(type, make);
}

}  // namespace trireme
