// Kernels for the emulation's own tests, of which many are wrong on purpose, and their launch.
#pragma once

#include <cstdint>
#include <tuple>

#include "core/device/cuda/language.cuh"
#include "core/tensor/view.h"

namespace trireme::emulation {

// Right ones.
void Scale(float* x, float factor, int n);
void BlockSum(const float* x, float* out, int n);  // One block; shared: a float per warp.
void ReadAll(const float* x, float* out, int n);   // out[0] = the sum, by one thread.
void WriteBf16(bfloat16* x, int n);                // Each element by its own thread.
void WriteBytes(uint8_t* x, int n);
void Count(int* counter);  // Atomically, once a thread.
void Shuffles(int* out);   // 32 threads, 5 results each.
void Multiply(const uint32_t* a, const uint32_t* b,
              float* d);                  // MmaBf16 of fragments in lane order.
void TableLookup(float* out);             // Of a constant of the program.
void LargeParams(View view, float* out);  // out[0] = view.sizes[5].

// Memory.
void WriteAt(float* x, int64_t index);
void WriteShared(int index);                  // Of bytes.
void ReadSharedFromBefore(float* out);        // Block 0 writes, block 1 reads.
void ReadVector(const float* x, float* out);  // A float4 at x.
void AtomicAt(char* x);                       // An int.
void CopyStruct(const float* x, float* out);  // 128 bytes, by memcpy.
void Recurse(float* out, int depth);

// Races.
void WriteSame(float* x);                      // x[0] = thread.
void ReverseShared(float* out, bool barrier);  // Through shared memory.
void ReverseInWarp(float* out, bool sync);
void ReadBeforeWrite(float* x,
                     bool barrier);        // Each thread reads its neighbour, then writes its own.
void WritePerBlock(float* x, bool apart);  // Each block writes and reads.
void CountAndRead(int* counter, float* out);  // Reads what others count.

// Barriers and warps.
void ExitEarly(bool early);  // One thread does not come to the barrier.
void TwoBarriers(bool divergent);
void ShuffleInHalf(int* out, unsigned mask);  // The first 16 lanes.
void ShuffleAfterExit(bool exits);
void ShuffleFromOutside(int* out, bool outside);
void LoopOfBarriers(int n);

struct Huge {
  char bytes[4100];
};
void TakeHuge(Huge huge);

// Queues the kernel; what cudaLaunchKernel answers.
template <typename... Params, typename... Args>
cudaError_t Launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Args... args) {
  std::tuple<Params...> params(args...);
  return std::apply(
      [&](auto&... param) {
        void* pointers[] = {&param..., nullptr};
        return cudaLaunchKernel(KernelAddress(kernel), grid, block, pointers, shared_bytes, stream);
      },
      params);
}

}  // namespace trireme::emulation
