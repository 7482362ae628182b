// Device: memory, queues and kernels of one piece of hardware. An object, one per rank, so that
// many ranks live in one process and each has its own peaks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"

namespace trireme {

// What a block of memory is for: the categories of every memory report.
enum class MemoryKind : uint8_t {
  kParameters,
  kGradients,
  kOptimizer,
  kActivations,
  kCommunication,
  kWorkspace,
};
inline constexpr int kNumMemoryKinds = 6;
const char* MemoryKindName(MemoryKind kind);

struct Block {
  void* data = nullptr;
  size_t bytes = 0;  // As requested.
  MemoryKind kind = MemoryKind::kActivations;
};

struct MemoryStats {
  std::array<int64_t, kNumMemoryKinds> current_bytes = {};
  std::array<int64_t, kNumMemoryKinds> peak_bytes = {};
  int64_t current_total_bytes = 0;
  int64_t peak_total_bytes = 0;    // The high-water mark of the sum, not the sum of the peaks.
  int64_t reserved_bytes = 0;      // Held from the system, cached blocks included.
  int64_t system_allocations = 0;  // How often the system was asked.
};

// A line per category: "parameters 12.3 MiB (peak 12.3 MiB)", then the total.
std::string FormatMemoryStats(const MemoryStats& stats);

class Device;
struct KernelTable;

// A stream of work. A CPU queue runs its work at once.
class Queue {
 public:
  virtual ~Queue() = default;
};

// A point in a queue's work. A CPU event has always happened.
class Event {
 public:
  virtual ~Event() = default;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual absl::string_view name() const = 0;  // "cpu", "cuda:0"
  // Of a GPU: unlike that of any other, on any machine. Empty: the device may be shared.
  virtual std::string id() const { return ""; }
  const KernelTable& kernels() const { return *kernels_; }

  // `label` names the holder in out-of-memory reports: an op or a parameter path.
  // RESOURCE_EXHAUSTED says what was asked, what each category holds, the ten largest holders and
  // what would help. Aligned to 64 bytes; contents undefined. Thread-safe, as is Free.
  virtual StatusOr<Block> Allocate(size_t bytes, MemoryKind kind, absl::string_view label) = 0;
  virtual void Free(const Block& block) = 0;

  // Memory for transfers to and from the host; plain memory on the CPU.
  virtual StatusOr<Block> AllocatePinned(size_t bytes) = 0;

  virtual Queue& compute() = 0;
  virtual std::unique_ptr<Queue> NewQueue(absl::string_view name) = 0;
  virtual std::unique_ptr<Event> Record(Queue& queue) = 0;
  virtual void Wait(Queue& queue, const Event& event) = 0;

  // In queue order; either side may be host memory. Host memory that is not pinned may be reused at
  // once as a source; as a destination it is filled after Synchronize.
  virtual void Copy(void* dst, const void* src, size_t bytes, Queue& queue) = 0;
  // Until the compute queue is empty, with all it waits for; reports errors of earlier work.
  virtual Status Synchronize() = 0;

  virtual MemoryStats stats() const = 0;
  // Peaks restart from what is held now.
  virtual void ResetPeaks() = 0;

 protected:
  explicit Device(const KernelTable& kernels) : kernels_(&kernels) {}

 private:
  const KernelTable* kernels_;
};

}  // namespace trireme
