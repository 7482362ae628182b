#include "tests/cuda_emulation/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace trireme::emulation {
namespace {

// Zero until touched.
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
    : cells_(static_cast<Cell*>(Reserve(memory_bytes * sizeof(Cell)))),
      pages_(static_cast<uint8_t*>(Reserve(memory_bytes >> kPageShift))) {}

int Shadow::Refine(size_t offset, size_t bytes) {
  const int old_shift = CellShift(offset);
  int shift = old_shift;
  while (((offset | bytes) & ((size_t{1} << shift) - 1)) != 0) --shift;
  if (shift == old_shift) return shift;
  Cell* page = CellAt(offset & ~(kPageBytes - 1), old_shift);
  const int copies = 1 << (old_shift - shift);
  // In place, from the end.
  for (size_t i = kPageBytes >> old_shift; i-- > 0;) {
    const Cell cell = page[i];
    std::fill_n(page + i * copies, copies, cell);
  }
  uint8_t& flags = pages_[offset >> kPageShift];
  flags = static_cast<uint8_t>((flags & ~3) | (2 - shift));
  return shift;
}

void Shadow::FillCells(size_t offset, size_t bytes, ByteState state) {
  const int shift = Refine(offset, bytes);
  std::fill_n(CellAt(offset, shift), bytes >> shift, Cell{static_cast<Stamp>(state), 0});
}

void Shadow::Fill(size_t offset, size_t bytes, ByteState state) {
  const size_t end = offset + bytes;
  const size_t first_page = (offset + kPageBytes - 1) & ~(kPageBytes - 1);
  const size_t last_page = end & ~(kPageBytes - 1);
  constexpr size_t kForgetBytes = 16 * kPageBytes;
  if (last_page >= first_page + kForgetBytes) {
    // The kernel gives back zero pages more cheaply than we fill them; a cell of zeros is as the page.
    if (offset < first_page) FillCells(offset, first_page - offset, state);
    madvise(CellAt(first_page, 2), (last_page - first_page) * sizeof(Cell), MADV_DONTNEED);
    std::fill(pages_ + (first_page >> kPageShift), pages_ + (last_page >> kPageShift),
              static_cast<uint8_t>(static_cast<int>(state) << 2));
    offset = last_page;
  }
  while (offset < end) {
    const size_t here = std::min(end, (offset | (kPageBytes - 1)) + 1) - offset;
    FillCells(offset, here, state);
    offset += here;
  }
}

int64_t Shadow::FindOther(size_t offset, size_t bytes, ByteState state) const {
  const size_t end = offset + bytes;
  while (offset < end) {
    const int shift = CellShift(offset);
    const size_t page_end = std::min(end, (offset | (kPageBytes - 1)) + 1);
    const Cell* cell = CellAt(offset, shift);
    const bool page_is = PageState(offset) == state;
    while (offset < page_end) {
      const ByteState found = StateOf(cell->write);
      if (found != state && !(found == ByteState::kAsPage && page_is)) {
        return static_cast<int64_t>(offset);
      }
      ++cell;
      offset = ((offset >> shift) + 1) << shift;
    }
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

}  // namespace trireme::emulation
