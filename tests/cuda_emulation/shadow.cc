#include "tests/cuda_emulation/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace trireme::emulation {
namespace {

void* Reserve(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    perror("emulated device: shadow memory");
    abort();
  }
  return memory;
}

}  // namespace

Shadow::Shadow(size_t memory_bytes)
    : words_(static_cast<Cell*>(Reserve(memory_bytes / 4 * sizeof(Cell)))),
      bytes_(static_cast<Cell*>(Reserve(memory_bytes * sizeof(Cell)))),
      pages_(static_cast<uint8_t*>(Reserve(memory_bytes >> kPageShift))) {
  madvise(words_, memory_bytes / 4 * sizeof(Cell), MADV_HUGEPAGE);
}

int Shadow::Refine(size_t offset, size_t bytes) {
  uint8_t& page = pages_[offset >> kPageShift];
  const size_t begin = offset & ~(kPageBytes - 1);
  const bool uniform = (page & kHasCells) == 0;
  const int old_shift = uniform ? 2 : page & kShiftMask;
  int shift = old_shift;
  while (((offset | bytes) & ((size_t{1} << shift) - 1)) != 0) --shift;
  Cell* cells = CellAt(begin, shift);
  if (uniform) {
    const Cell cell = {static_cast<Stamp>(UniformState(page)), 0};
    std::fill_n(cells, kPageBytes >> shift, cell);
  } else if (shift < old_shift) {
    // From the end: the larger cells may lie where the smaller ones go.
    const Cell* old_cells = CellAt(begin, old_shift);
    const int copies = 1 << (old_shift - shift);
    for (size_t i = kPageBytes >> old_shift; i-- > 0;) {
      const Cell cell = old_cells[i];
      std::fill_n(cells + i * static_cast<size_t>(copies), copies, cell);
    }
  }
  page = static_cast<uint8_t>(shift | kHasCells);
  return shift;
}

void Shadow::Fill(size_t offset, size_t bytes, ByteState state) {
  for (const size_t end = offset + bytes; offset < end;) {
    const size_t here = std::min(end, (offset | (kPageBytes - 1)) + 1) - offset;
    if (here == kPageBytes) {
      pages_[offset >> kPageShift] = UniformPage(state);
    } else {
      int shift;
      Cell* cells = Cells(offset, here, shift);
      std::fill_n(cells, here >> shift, Cell{static_cast<Stamp>(state), 0});
    }
    offset += here;
  }
}

ByteState Shadow::StateAt(size_t offset) const {
  const uint8_t page = pages_[offset >> kPageShift];
  if ((page & kHasCells) == 0) return UniformState(page);
  return StateOf(CellAt(offset, page & kShiftMask)->write);
}

int64_t Shadow::FindOther(size_t offset, size_t bytes, ByteState state) const {
  for (const size_t end = offset + bytes; offset < end;) {
    const uint8_t page = pages_[offset >> kPageShift];
    const size_t page_end = std::min(end, (offset | (kPageBytes - 1)) + 1);
    if ((page & kHasCells) == 0) {
      if (UniformState(page) != state) return static_cast<int64_t>(offset);
    } else {
      const int shift = page & kShiftMask;
      const Cell* cell = CellAt(offset, shift);
      for (; offset < page_end; offset = ((offset >> shift) + 1) << shift) {
        if (StateOf((cell++)->write) != state) return static_cast<int64_t>(offset);
      }
    }
    offset = page_end;
  }
  return -1;
}

void Shadow::CopyStates(size_t to, size_t from, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    // Runs of one state: nearly always the whole range.
    const ByteState state = StateAt(from + done);
    const int64_t other = FindOther(from + done, bytes - done, state);
    const size_t run = other < 0 ? bytes - done : static_cast<size_t>(other) - from - done;
    Fill(to + done, run, state);
    done += run;
  }
}

void Shadow::Forget(size_t offset, size_t bytes, ByteState state) {
  Fill(offset, bytes, state);
  madvise(words_ + offset / 4, bytes / 4 * sizeof(Cell), MADV_DONTNEED);
  madvise(bytes_ + offset, bytes * sizeof(Cell), MADV_DONTNEED);
}

}  // namespace trireme::emulation
