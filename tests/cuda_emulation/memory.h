// Memory of an emulated device: a range of addresses that the host may not touch, handed out in
// pages with untouchable ones between them; and pinned host memory, which kernels may touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "tests/cuda_emulation/shadow.h"

namespace trireme::emulation {

inline constexpr size_t kMaxSharedBytes = 227 << 10;

class DeviceMemory {
 public:
  // `capacity` is what it claims to have. The last pages of the range are a block's shared memory.
  DeviceMemory(int device, size_t capacity);
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* Allocate(size_t bytes);  // nullptr when that does not fit.
  bool Free(void* pointer);      // False when it is not one that was handed out.
  size_t capacity() const { return capacity_; }
  size_t allocated() const;

  bool Contains(const void* pointer) const {
    return reinterpret_cast<uintptr_t>(pointer) - begin_ < range_bytes_;
  }
  size_t Offset(const void* pointer) const { return reinterpret_cast<uintptr_t>(pointer) - begin_; }
  uintptr_t begin() const { return begin_; }
  size_t shared_offset() const { return shared_offset_; }
  unsigned char* shared() const {
    return reinterpret_cast<unsigned char*>(begin_ + shared_offset_);
  }
  size_t range_bytes() const { return range_bytes_; }
  Shadow& shadow() { return shadow_; }
  const Shadow& shadow() const { return shadow_; }
  int device() const { return device_; }

  // What is wrong with reading or writing [pointer, pointer + bytes) as copies and library calls
  // do; empty if nothing is. A write marks the bytes as written.
  std::string Read(const void* pointer, size_t bytes) const;
  std::string Write(void* pointer, size_t bytes);
  // As Read, for a copy, which what nobody wrote survives.
  std::string CheckBounds(const void* pointer, size_t bytes, const char* verb) const;

  // Of a pool: a block of an allocation, handed out and taken back. What no block holds is out of
  // bounds once the pool has begun.
  void BeginPool(const void* pointer);
  void BlockAllocated(void* pointer, size_t bytes);
  void BlockFreed(void* pointer, size_t bytes);

  // "byte 4096 of block [0x7f.., 4096 bytes]", for messages.
  std::string Describe(const void* pointer) const;

  // The range can be touched while anybody has it open.
  void Open();
  void Close();

 private:
  struct Block {
    size_t bytes;
    bool live;
  };
  struct Allocation {
    size_t bytes;
    bool live;
    bool pooled = false;
    std::map<size_t, Block> blocks;  // By offset.
  };
  // The live allocation that holds the range, or null.
  std::pair<const size_t, Allocation>* HolderOf(const void* pointer, size_t bytes);
  // The allocation at or before the offset.
  const std::pair<const size_t, Allocation>* FindAllocation(size_t offset) const;

  const int device_;
  const size_t capacity_;
  const size_t shared_offset_;
  const size_t range_bytes_;
  const uintptr_t begin_;
  Shadow shadow_;
  mutable std::mutex mutex_;
  std::map<size_t, Allocation>
      allocations_;  // By offset; freed ones until their place is used again.
  size_t allocated_ = 0;
  size_t next_offset_ = kPageBytes;
  int num_open_ = 0;
};

// Pinned host memory, of all devices.
class PinnedMemory {
 public:
  void* Allocate(size_t bytes);
  bool Free(void* pointer);
  bool Contains(const void* pointer, size_t bytes = 1) const;

 private:
  mutable std::mutex mutex_;
  std::map<uintptr_t, size_t> blocks_;
};

// Whether all of the range lies in a segment of the program that nobody may write.
bool IsReadOnlyProgramData(const void* pointer, size_t bytes);

}  // namespace trireme::emulation
