// Shadow memory: what is known of every byte of a device's memory. Beside each 4 bytes lies a cell
// with the last write and the last reads; pages that are accessed in smaller pieces have a cell per 2
// bytes or per byte.
//
// A stamp says who accessed when. Blocks of a launch run one after the other and every interval
// between two barriers of a block gets the next number, so the interval alone tells whether a stamp is
// of an earlier launch (ordered before us), of another block of this launch (never ordered), of this
// block before its last barrier (ordered) or of the running interval, where only a thread's own
// accesses and those before the last barrier of the same warp are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::emulation {

enum class ByteState : uint64_t { kAsPage, kUninitialized, kWritten, kFreed };

// Who the accesses that a stamp stands for came from.
enum class Breadth : uint64_t { kThread, kWarp, kBlock, kGrid };

// interval:36 | thread:10 | warp interval:10 | unused:3 | atomic:1 | breadth:2 | state:2
using Stamp = uint64_t;
inline constexpr int kIntervalShift = 28;
inline constexpr int kThreadShift = 18;
inline constexpr int kWarpIntervalShift = 8;
inline constexpr Stamp kAtomicBit = 1 << 4;
inline constexpr Stamp kWhoMask = ~Stamp{0xFF};  // Interval, thread and warp interval.

inline Stamp MakeStamp(uint64_t interval, unsigned thread, unsigned warp_interval) {
  return interval << kIntervalShift | Stamp{thread} << kThreadShift |
         Stamp{warp_interval} << kWarpIntervalShift;
}
inline uint64_t IntervalOf(Stamp stamp) { return stamp >> kIntervalShift; }
inline unsigned ThreadOf(Stamp stamp) { return (stamp >> kThreadShift) & 1023; }
inline unsigned WarpIntervalOf(Stamp stamp) { return (stamp >> kWarpIntervalShift) & 1023; }
inline Breadth BreadthOf(Stamp stamp) { return static_cast<Breadth>((stamp >> 2) & 3); }
inline ByteState StateOf(Stamp stamp) { return static_cast<ByteState>(stamp & 3); }
inline Stamp WithBreadth(Stamp stamp, Breadth breadth) {
  return (stamp & ~Stamp{12}) | static_cast<Stamp>(breadth) << 2;
}
inline Stamp WithState(Stamp stamp, ByteState state) {
  return (stamp & ~Stamp{3}) | static_cast<Stamp>(state);
}

struct Cell {
  Stamp write;  // And the state of the bytes.
  Stamp read;
};

inline constexpr int kPageShift = 12;
inline constexpr size_t kPageBytes = size_t{1} << kPageShift;

class Shadow {
 public:
  explicit Shadow(size_t memory_bytes);  // A multiple of pages.
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  // Bytes of memory per cell at `offset` are 1 << CellShift(offset).
  int CellShift(size_t offset) const { return 2 - (pages_[offset >> kPageShift] & 3); }
  Cell* CellAt(size_t offset, int shift) const {
    return cells_ + (offset & ~(kPageBytes - 1)) + ((offset & (kPageBytes - 1)) >> shift);
  }
  // Cells of the page of `offset` become as small as an access of so many bytes there needs.
  int Refine(size_t offset, size_t bytes);

  ByteState PageState(size_t offset) const {
    return static_cast<ByteState>((pages_[offset >> kPageShift] >> 2) & 3);
  }
  ByteState StateAt(size_t offset) const {
    const ByteState state = StateOf(CellAt(offset, CellShift(offset))->write);
    return state == ByteState::kAsPage ? PageState(offset) : state;
  }

  // All bytes of [offset, offset + bytes) are in `state` and nobody has accessed them.
  void Fill(size_t offset, size_t bytes, ByteState state);
  // The first byte of the range that is not in `state`, or -1.
  int64_t FindOther(size_t offset, size_t bytes, ByteState state) const;
  // As memory is copied: what was uninitialized is so at its new place. Ranges do not overlap.
  void CopyStates(size_t to, size_t from, size_t bytes);

 private:
  void FillCells(size_t offset, size_t bytes, ByteState state);

  Cell* cells_;     // kPageBytes of them a page, the first of them used.
  uint8_t* pages_;  // 2 - cell shift, and in the next two bits the state that kAsPage stands for.
};

}  // namespace trireme::emulation
