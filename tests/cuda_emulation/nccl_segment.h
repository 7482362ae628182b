// What the ranks of an emulated communicator share, threads of a process or processes: a segment of
// POSIX shared memory named after the unique id, with a ring of bytes for every ordered pair of
// ranks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace trireme::emulation {

inline constexpr int kMaxRanks = 64;
inline constexpr size_t kRingBytes = 64 << 10;
inline constexpr int kMaxSplits = 32;

// Bytes from one rank to another, in order. One writer, one reader.
struct Ring {
  alignas(64) std::atomic<uint64_t> written;
  alignas(64) std::atomic<uint64_t> read;
  alignas(64) unsigned char bytes[kRingBytes];

  // Moves what fits; returns how much.
  size_t Put(const void* data, size_t size);
  size_t Get(void* data, size_t size);
};

struct SplitEntry {
  std::atomic<uint32_t> present;
  int32_t color;
  int32_t key;
};

class Segment {
 public:
  // Attaches rank `rank` of `num_ranks`; nullptr (and perror) when the system refuses.
  static std::unique_ptr<Segment> Attach(const std::string& name, int num_ranks, int rank,
                                         int device);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  bool AllPresent() const;
  // Two ranks on one device, or -1.
  int FirstOfDuplicates() const;
  int DeviceOf(int rank) const { return shared_->device[rank]; }
  // The name is needed no more.
  void Unlink();

  // Point-to-point messages and collectives have rings of their own.
  Ring& ring(bool collective, int from, int to) const;
  // Set by a rank that waits for `rank`.
  std::atomic<uint32_t>& needed(int rank) const { return shared_->needed[rank]; }
  SplitEntry& split(int number, int rank) const { return shared_->splits[number][rank]; }

 private:
  struct Shared {
    std::atomic<uint32_t> present[kMaxRanks];
    std::atomic<uint32_t> needed[kMaxRanks];
    int32_t device[kMaxRanks];
    SplitEntry splits[kMaxSplits][kMaxRanks];
    alignas(64) Ring rings[];
  };
  Segment(std::string name, int num_ranks, Shared* shared, size_t bytes)
      : name_(std::move(name)), num_ranks_(num_ranks), shared_(shared), bytes_(bytes) {}

  const std::string name_;
  const int num_ranks_;
  Shared* const shared_;
  const size_t bytes_;
};

}  // namespace trireme::emulation
