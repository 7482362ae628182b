#include "core/device/cuda/cuda_memory.h"

#include "core/base/log.h"
#include "core/device/cuda/block_hooks.h"
#include "core/device/cuda/cuda_status.h"

namespace trireme {

void* CudaMemory::Allocate(size_t bytes) {
  CUDA_OR_LOG(cudaSetDevice(ordinal_));
  void* data = nullptr;
  const cudaError_t code = cudaMalloc(&data, bytes);
  if (code == cudaSuccess) return data;
  // Out of memory is an answer, which the caller explains; it must not be found again by the next
  // call.
  if (code != cudaErrorMemoryAllocation) {
    LOG(ERROR) << CUDA_STATUS_OF(code, "cudaMalloc").message();
  }
  (void)cudaGetLastError();
  return nullptr;
}

// cudaFree waits for the device, so no work of any stream uses the memory any more.
void CudaMemory::Free(void* data, size_t) {
  CUDA_OR_LOG(cudaSetDevice(ordinal_));
  CUDA_OR_LOG(cudaFree(data));
}

void CudaMemory::HandedOut(void* data, size_t bytes) { TellBlockHandedOut(data, bytes, stream_); }

void CudaMemory::TakenBack(void* data, size_t bytes) { TellBlockTakenBack(data, bytes, stream_); }

void* PinnedMemory::Allocate(size_t bytes) {
  void* data = nullptr;
  const cudaError_t code = cudaHostAlloc(&data, bytes, cudaHostAllocPortable);
  if (code == cudaSuccess) return data;
  LOG(ERROR) << CUDA_STATUS_OF(code, "cudaHostAlloc").message();
  (void)cudaGetLastError();
  return nullptr;
}

void PinnedMemory::Free(void* data, size_t) { CUDA_OR_LOG(cudaFreeHost(data)); }

}  // namespace trireme
