// What the built-ins of emulated kernels call, behind language.cuh. A CUDA thread is a fiber; these
// functions may switch to others. Not instrumented.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace trireme::emulation {

// Of the running CUDA thread. A thread keeps its place for life, so the compiler may keep the
// answer.
[[gnu::const]] unsigned ThreadIndex(int dim);
[[gnu::const]] unsigned BlockIndex(int dim);
[[gnu::const]] unsigned BlockSize(int dim);
[[gnu::const]] unsigned GridSize(int dim);
[[gnu::const]] void* SharedMemory();

// Returns whether any, and through `count` how many, threads of the block came with `predicate`.
bool BlockBarrier(bool predicate, int* count, const std::source_location& site);

enum class WarpOperation {
  kSync,
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kMatrixMultiply,
};

void WarpBarrier(uint32_t mask, const std::source_location& site);
uint64_t WarpShuffle(WarpOperation operation, uint32_t mask, uint64_t bits, int argument, int width,
                     const std::source_location& site);
uint32_t WarpBallot(uint32_t mask, bool predicate, const std::source_location& site);
void WarpMatrixMultiply(float* d, const uint32_t* a, const uint32_t* b,
                        const std::source_location& site);

// Checks an access of an atomic operation, which may meet others of its kind.
void CheckAtomic(const void* address, size_t bytes);

[[noreturn]] void Trap(const std::source_location& site);

// How a launch finds the parameters of a kernel again: their sizes and a function that calls it.
struct KernelSignature {
  int num_params;
  const uint32_t* param_bytes;
  const uint32_t* param_offsets;
  uint32_t total_bytes;
  void (*invoke)(const void* kernel, const unsigned char* params);
};
void RegisterKernel(const void* kernel, const KernelSignature* signature);

}  // namespace trireme::emulation
