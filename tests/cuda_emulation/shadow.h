// Shadow memory: what is known of every byte of a device's memory. To each 4 bytes belongs a cell
// with the last write and the last reads; pages that are accessed in smaller pieces have a cell per
// 2 bytes or per byte, and pages of which there is nothing to tell but one state of all bytes have
// none.
//
// A stamp says who accessed when. Blocks of a launch run one after the other and every interval
// between two barriers of a block gets the next number, so the interval alone tells whether a stamp
// is of an earlier launch (ordered before us), of another block of this launch (never ordered), of
// this block before its last barrier (ordered) or of the running interval, where only a thread's
// own accesses and those before the last barrier of the same warp are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::emulation {

enum class ByteState : uint64_t { kNowhere, kUninitialized, kWritten, kFreed };

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
  explicit Shadow(size_t memory_bytes);  // A multiple of pages. In state kNowhere.
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  // The cells of [offset, offset + bytes), which lies in one page, small enough for it: each is of
  // 1 << shift bytes.
  Cell* Cells(size_t offset, size_t bytes, int& shift) {
    const uint8_t page = pages_[offset >> kPageShift];
    shift = page & kShiftMask;
    if ((page & kHasCells) == 0 || ((offset | bytes) & ((size_t{1} << shift) - 1)) != 0)
        [[unlikely]] {
      shift = Refine(offset, bytes);
    }
    return CellAt(offset, shift);
  }

  // As Cells where they are as they should be; else null.
  Cell* CellsThere(size_t offset, size_t bytes, int& shift) const {
    const uint8_t page = pages_[offset >> kPageShift];
    shift = page & kShiftMask;
    const bool there = (page & kHasCells) != 0 &&
                       ((offset | bytes) & ((size_t{1} << shift) - 1)) == 0 &&
                       (offset & (kPageBytes - 1)) + bytes <= kPageBytes;
    return there ? CellAt(offset, shift) : nullptr;
  }

  // All bytes of [offset, offset + bytes) are in `state` and nobody has accessed them.
  void Fill(size_t offset, size_t bytes, ByteState state);
  ByteState StateAt(size_t offset) const;
  // The first byte of the range that is not in `state`, or -1.
  int64_t FindOther(size_t offset, size_t bytes, ByteState state) const;
  // As memory is copied: what was uninitialized is so at its new place. Ranges do not overlap.
  void CopyStates(size_t to, size_t from, size_t bytes);
  // Gives the memory of cells back. The range is in whole pages, and in the state `state`.
  void Forget(size_t offset, size_t bytes, ByteState state);

 private:
  static constexpr uint8_t kShiftMask = 3;
  static constexpr uint8_t kHasCells = 16;  // Else the state of all bytes is in bits 2 and 3.
  static uint8_t UniformPage(ByteState state) {
    return static_cast<uint8_t>(static_cast<int>(state) << 2);
  }
  static ByteState UniformState(uint8_t page) { return static_cast<ByteState>((page >> 2) & 3); }

  Cell* CellAt(size_t offset, int shift) const {
    return shift == 2
               ? words_ + (offset >> 2)
               : bytes_ + (offset & ~(kPageBytes - 1)) + ((offset & (kPageBytes - 1)) >> shift);
  }
  int Refine(size_t offset, size_t bytes);

  Cell* words_;
  Cell* bytes_;  // Of pages with smaller cells: a place for kPageBytes of them a page.
  uint8_t* pages_;
};

}  // namespace trireme::emulation
