// A caching allocator with high-water marks by category, over the memory of any device.
//
// Memory comes from its source in segments and returns there only when a limit is met or the
// allocator dies, so steps that repeat ask the source for nothing. Inside a segment: best fit,
// split and coalesced. Invariants: the chunks of a segment tile it in address order, no two
// neighbours are free, and each free chunk is in `free_`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/strings/string_view.h"

#include "core/device/device.h"

namespace trireme {

// Where segments come from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual const char* name() const = 0;  // "the system", in errors.
  // Aligned to 64 bytes at least; nullptr: refused.
  virtual void* Allocate(size_t bytes) = 0;
  virtual void Free(void* data, size_t bytes) = 0;
  // For checkers of memory: who holds these bytes of a segment. Memory not handed out is nobody's.
  virtual void HandedOut(void* data, size_t bytes) = 0;
  virtual void TakenBack(void* data, size_t bytes) = 0;
};

// Thread-safe. Blocks must not outlive it.
class CachingAllocator {
 public:
  // limit_bytes bounds what is held from the source; 0: no limit of our own.
  CachingAllocator(std::unique_ptr<MemorySource> source, int64_t limit_bytes)
      : source_(std::move(source)), limit_bytes_(limit_bytes) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // Aligned to 64 bytes; a block of no bytes has an address of its own as well.
  StatusOr<Block> Allocate(size_t bytes, MemoryKind kind, absl::string_view label);
  void Free(const Block& block);
  bool Owns(const void* data) const;  // Whether it begins a block that is in use.
  MemoryStats stats() const;
  void ResetPeaks();

 private:
  struct Chunk {
    char* data;
    size_t bytes;                        // A multiple of 64.
    bool first;                          // Of its segment.
    const std::string* label = nullptr;  // nullptr: free.
    Block block = {};
    Chunk* previous = nullptr;  // Neighbours in the segment.
    Chunk* next = nullptr;
  };
  struct BySizeThenAddress {
    bool operator()(const Chunk* a, const Chunk* b) const {
      return a->bytes != b->bytes ? a->bytes < b->bytes : a->data < b->data;
    }
  };
  using FreeChunks = std::set<Chunk*, BySizeThenAddress>;

  // These expect mutex_ to be held.
  Chunk* FindFree(size_t bytes) const;
  Chunk* AddSegment(size_t bytes);  // nullptr: refused by the limit or by the source.
  void ReleaseFreeSegments();
  void Split(Chunk* chunk, size_t bytes);
  void MergeWithNext(Chunk* chunk);
  Status OutOfMemory(size_t bytes, MemoryKind kind, absl::string_view label) const;

  const std::unique_ptr<MemorySource> source_;
  const int64_t limit_bytes_;
  mutable std::mutex mutex_;
  FreeChunks free_;
  std::unordered_map<const void*, Chunk*> used_;
  // Op names and parameter paths: each is kept once, and few exist.
  std::set<std::string, std::less<>> labels_;
  MemoryStats stats_;
};

}  // namespace trireme
