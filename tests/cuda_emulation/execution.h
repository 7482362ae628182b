// A launch while it runs: its blocks one after the other, the threads of a block as fibers.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

#include "tests/cuda_emulation/builtins.h"
#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/memory.h"

namespace trireme::emulation {

inline constexpr unsigned kWarpSize = 32;
inline constexpr unsigned kMaxThreads = 1024;

struct KernelLaunch {
  const void* kernel;
  const KernelSignature* signature;
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  std::vector<unsigned char> params;
};

// The state of a thread of the operating system that runs kernels. One of them runs at a time on a
// device, and its memory checks read most of these fields, so they are public and together.
class Execution {
 public:
  Execution(DeviceMemory& memory, const PinnedMemory& pinned);
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;

  // Runs it all, or up to the first error, which is reported.
  cudaError_t Run(const KernelLaunch& launch);

  // The execution whose kernel runs on this thread; null in host code.
  static Execution* Current() { return current_; }

  // Ends the launch from inside of one of its threads: "kernel k, block (0,0,0), thread (1,0,0):
  // what".
  [[noreturn]] void Stop(cudaError_t code, const std::string& what);
  // Who a stamp of this launch stands for.
  std::string DescribeStamp(Stamp stamp) const;

  bool BlockBarrier(bool predicate, int* count, const std::source_location& site);
  // All lanes of the mask come together; the last to come calls combine(records, mask), where a
  // lane's record is what it came with, until all go on.
  void WarpMeeting(WarpOperation operation, uint32_t mask, void* record,
                   void (*combine)(void* const* records, uint32_t mask),
                   const std::source_location& site);

  // What accesses are checked against.
  uintptr_t stack_begin = 0;
  Stamp me = 0;             // Interval, thread and warp interval of the running thread.
  Stamp since_launch = 0;   // The first stamp of the launch,
  Stamp since_block = 0;    // of the running block,
  Stamp since_barrier = 0;  // and of its running interval.
  DeviceMemory& memory;
  const PinnedMemory& pinned;

  const KernelLaunch* launch = nullptr;
  uint3 block_index = {};
  unsigned thread = 0;  // Of the block, x fastest.
  std::array<uint3, kMaxThreads> thread_indices;

 private:
  enum class State : uint8_t { kFresh, kRunnable, kAtBarrier, kInWarp, kExited };
  struct Thread {
    State state;
    WarpOperation operation;  // What it waits for in its warp,
    uint32_t mask;            // and with whom.
    Fiber* fiber;
    std::source_location site;
  };
  struct Warp {
    uint32_t runnable;  // A bit a lane.
    uint32_t present;   // Lanes that came to a meeting and wait in it.
    unsigned interval;  // Since its last __syncwarp.
    void* records[kWarpSize];
  };

  static void FiberMain();
  void RunBlock();
  void RunWarp(unsigned warp);
  void Resume(unsigned thread);
  void Suspend();
  void EnterThread(unsigned thread);
  void NewInterval();
  void StopWarp(unsigned warp);
  void ReleaseBarrier();
  uint32_t LanesOf(unsigned warp) const;
  unsigned num_threads() const { return num_threads_; }

  static constinit thread_local Execution* current_ __attribute__((tls_model("initial-exec")));

  FiberPool fibers_;
  Fiber scheduler_;
  std::array<Thread, kMaxThreads> threads_;
  std::array<Warp, kMaxThreads / kWarpSize> warps_ = {};
  Fiber* running_ = nullptr;
  unsigned num_threads_ = 0;  // Of a block.
  uint64_t interval_ = 0;
  std::vector<uint64_t>
      block_intervals_;         // The first interval of each block of the launch, in order.
  int barrier_count_ = 0;       // Threads that came with true,
  int last_barrier_count_ = 0;  // and to the barrier before.
  cudaError_t failure_ = cudaSuccess;
};

}  // namespace trireme::emulation
