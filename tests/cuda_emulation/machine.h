// The emulated machine: its devices, and on each the streams of work and the worker that runs it.
//
// Work is queued and runs when somebody waits for it, or after kPatience without news, so that
// ranks that wait for each other never do so for ever. Which stream goes first, among those whose
// next task may run, is the seed's choice.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cuda_emulation/execution.h"
#include "tests/cuda_emulation/memory.h"

namespace trireme::emulation {

inline constexpr std::chrono::milliseconds kPatience{20};

class EmulatedDevice;

struct EventState {
  uint64_t recorded = 0;                       // How often it was recorded,
  uint64_t completed = 0;                      // and up to which of them has happened,
  std::chrono::steady_clock::time_point time;  // when.
  EmulatedDevice* device = nullptr;            // Where it was recorded last.
};

struct Task {
  const char* name;
  // cudaErrorNotReady: it has not ended, and wants to be run again when others had their turn.
  std::function<cudaError_t()> run;
  std::function<bool()> ready = nullptr;  // Empty: always. Called with the machine's mutex held.
  uint64_t number = 0;                    // In the order of the host's calls.
};

}  // namespace trireme::emulation

// The runtime's opaque handles.
struct CUevent_st {
  bool timed = false;
  // Queued work may outlive the handle.
  std::shared_ptr<trireme::emulation::EventState> state;
};
struct CUstream_st {
  trireme::emulation::EmulatedDevice* device = nullptr;
  bool waits_for_legacy = false;
  bool is_legacy = false;
  std::deque<trireme::emulation::Task> tasks;
  uint64_t enqueued = 0;
  uint64_t completed = 0;
  bool stalled = false;  // Its task could not go on when it was last tried.
};

namespace trireme::emulation {

// All members but the first two are guarded by the machine's mutex.
class EmulatedDevice {
 public:
  EmulatedDevice(int index, size_t capacity, const PinnedMemory& pinned);

  const int index;
  DeviceMemory memory;
  Execution execution;  // The worker's.
  CUstream_st legacy_stream;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::vector<const std::function<bool()>*> awaited;  // What host threads wait for.
  bool busy = false;                                  // A task runs, without the mutex.
  std::condition_variable work;                       // For the worker.
  // Set by ranks of other devices that wait for this one.
  std::vector<std::weak_ptr<std::atomic<uint32_t>>> needed;
  std::chrono::steady_clock::time_point last_news;
  cudaError_t failure = cudaSuccess;  // Sticky.
  uint64_t random = 0;
};

class Machine {
 public:
  static Machine& Get();

  int num_devices() const { return static_cast<int>(devices_.size()); }
  // Starts its worker at first; null when there is no such device.
  EmulatedDevice* device(int index);
  // Of the calling thread.
  EmulatedDevice& current();
  cudaError_t SetCurrent(int index);
  int current_index() const;
  PinnedMemory& pinned() { return pinned_; }
  // The device whose memory this is, or null. DeviceAt takes no lock: for a program that dies.
  EmulatedDevice* DeviceOf(const void* pointer);
  EmulatedDevice* DeviceAt(const void* pointer) const;

  CUstream_st& Stream(cudaStream_t stream);
  cudaError_t Enqueue(CUstream_st& stream, Task task);
  // Until all that is in the stream now has run.
  cudaError_t Wait(CUstream_st& stream);
  cudaError_t Wait(EmulatedDevice& device);
  cudaError_t WaitUntil(EmulatedDevice& device, const std::function<bool()>& done);

  // Instead of kPatience, for tests of what has not run yet.
  void SetPatience(std::chrono::milliseconds patience);

  // Forgets failures and the work that they left.
  void Recover();

  // To be held around the fields of streams and events.
  std::mutex& mutex() { return mutex_; }
  // What tasks of other devices are ready for may have happened. With the mutex held.
  void WakeWorkers();
  void WakeHosts() { changed_.notify_all(); }

 private:
  Machine();
  void Work(EmulatedDevice& device);
  CUstream_st* Pick(EmulatedDevice& device);
  bool MayRun(const EmulatedDevice& device, const CUstream_st& stream) const;
  static bool HasWork(const EmulatedDevice& device);
  static bool IsAwaited(const EmulatedDevice& device);
  static bool IsNeeded(EmulatedDevice& device);
  static void DropWork(EmulatedDevice& device);

  std::mutex mutex_;
  std::condition_variable changed_;  // For the host: a task has ended.
  std::vector<std::unique_ptr<EmulatedDevice>> devices_;
  PinnedMemory pinned_;
  std::chrono::milliseconds patience_ = kPatience;
  uint64_t num_tasks_ = 0;
  uint64_t seed_ = 0;
};

}  // namespace trireme::emulation
