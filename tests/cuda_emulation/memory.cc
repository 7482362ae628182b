#include "tests/cuda_emulation/memory.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/cuda_emulation/errors.h"

namespace trireme::emulation {
namespace {

// Addresses are cheap; the farther apart a freed block and the next one at its place, the better.
constexpr size_t kRangePerCapacity = 4;

constexpr size_t kLargePageBytes = size_t{2} << 20;

size_t RoundUp(size_t value, size_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

size_t RoundToPages(size_t bytes) { return RoundUp(std::max<size_t>(bytes, 1), kPageBytes); }

uintptr_t ReserveRange(size_t bytes) {
  void* range = mmap(nullptr, bytes + kLargePageBytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) {
    perror("emulated device: memory");
    abort();
  }
  return RoundUp(reinterpret_cast<uintptr_t>(range), kLargePageBytes);
}

}  // namespace

DeviceMemory::DeviceMemory(int device, size_t capacity)
    : device_(device),
      capacity_(RoundToPages(capacity)),
      shared_offset_(capacity_ * kRangePerCapacity),
      range_bytes_(shared_offset_ + RoundToPages(kMaxSharedBytes) + kPageBytes),
      begin_(ReserveRange(range_bytes_)),
      shadow_(range_bytes_) {
  // The protection of a large page changes as fast as that of a small one.
  madvise(reinterpret_cast<void*>(begin_), range_bytes_, MADV_HUGEPAGE);
}

void* DeviceMemory::Allocate(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const size_t pages = RoundToPages(bytes);
  if (pages > capacity_ - allocated_) return nullptr;
  // Next fit, with a page between neighbours.
  const size_t alignment = bytes >= kLargePageBytes ? kLargePageBytes : kPageBytes;
  size_t offset = RoundUp(next_offset_, alignment);
  for (bool wrapped = false;;) {
    auto next = allocations_.lower_bound(offset);
    while (next != allocations_.end() && !next->second.live &&
           next->first < offset + pages + kPageBytes) {
      next = allocations_.erase(next);
    }
    const size_t limit = next == allocations_.end() ? shared_offset_ : next->first;
    if (offset + pages + kPageBytes <= limit) break;
    if (next != allocations_.end()) {
      offset = RoundUp(next->first + RoundToPages(next->second.bytes) + kPageBytes, alignment);
    } else if (wrapped) {
      return nullptr;
    } else {
      wrapped = true;
      offset = alignment;
    }
  }
  next_offset_ = offset + pages + kPageBytes;
  allocated_ += pages;
  allocations_[offset] = {bytes, true, false, {}};
  shadow_.Fill(offset, bytes, ByteState::kUninitialized);
  return reinterpret_cast<void*>(begin_ + offset);
}

bool DeviceMemory::Free(void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = allocations_.find(Offset(pointer));
  if (!Contains(pointer) || found == allocations_.end() || !found->second.live) return false;
  const size_t pages = RoundToPages(found->second.bytes);
  found->second.live = false;
  allocated_ -= pages;
  shadow_.Forget(found->first, pages, ByteState::kFreed);
  madvise(pointer, pages, MADV_DONTNEED);
  return true;
}

size_t DeviceMemory::allocated() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return allocated_;
}

const std::pair<const size_t, DeviceMemory::Allocation>* DeviceMemory::FindAllocation(
    size_t offset) const {
  const auto next = allocations_.upper_bound(offset);
  return next == allocations_.begin() ? nullptr : &*std::prev(next);
}

std::string DeviceMemory::CheckBounds(const void* pointer, size_t bytes, const char* verb) const {
  const size_t offset = Offset(pointer);
  if (!Contains(pointer) || bytes > range_bytes_ - offset) {
    return Format("%s %zu bytes: ", verb, bytes) + Describe(pointer);
  }
  for (size_t at = offset; at < offset + bytes;) {
    // Runs of bytes that a block holds, of which there are two kinds.
    const ByteState state = shadow_.StateAt(at);
    if (state != ByteState::kUninitialized && state != ByteState::kWritten) {
      return Format("%s %zu bytes: ", verb, bytes) +
             Describe(reinterpret_cast<const void*>(begin_ + at));
    }
    const int64_t other = shadow_.FindOther(at, offset + bytes - at, state);
    if (other < 0) break;
    at = static_cast<size_t>(other);
  }
  return "";
}

std::string DeviceMemory::Read(const void* pointer, size_t bytes) const {
  std::string wrong = CheckBounds(pointer, bytes, "reads");
  if (!wrong.empty() || bytes == 0) return wrong;
  const int64_t other = shadow_.FindOther(Offset(pointer), bytes, ByteState::kWritten);
  if (other < 0) return "";
  return Format("reads %zu bytes that nobody wrote: ", bytes) +
         Describe(reinterpret_cast<const void*>(begin_ + static_cast<size_t>(other)));
}

std::string DeviceMemory::Write(void* pointer, size_t bytes) {
  std::string wrong = CheckBounds(pointer, bytes, "writes");
  if (wrong.empty() && bytes > 0) shadow_.Fill(Offset(pointer), bytes, ByteState::kWritten);
  return wrong;
}

std::pair<const size_t, DeviceMemory::Allocation>* DeviceMemory::HolderOf(const void* pointer,
                                                                          size_t bytes) {
  const size_t offset = Offset(pointer);
  const auto next = allocations_.upper_bound(offset);
  if (!Contains(pointer) || next == allocations_.begin()) return nullptr;
  auto& holder = *std::prev(next);
  const bool holds = offset + bytes <= holder.first + holder.second.bytes;
  return holder.second.live && holds ? &holder : nullptr;
}

void DeviceMemory::BeginPool(const void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto* holder = HolderOf(pointer, 0);
  if (holder == nullptr || holder->second.pooled) return;
  holder->second.pooled = true;
  shadow_.Fill(holder->first, holder->second.bytes, ByteState::kFreed);
}

void DeviceMemory::BlockAllocated(void* pointer, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto* holder = HolderOf(pointer, bytes);
  if (holder == nullptr) return;
  const size_t offset = Offset(pointer);
  auto& blocks = holder->second.blocks;
  // Blocks that were there before are forgotten.
  auto old = blocks.lower_bound(offset);
  if (old != blocks.begin() && std::prev(old)->first + std::prev(old)->second.bytes > offset) --old;
  while (old != blocks.end() && old->first < offset + std::max<size_t>(bytes, 1)) {
    old = blocks.erase(old);
  }
  blocks[offset] = {bytes, true};
  shadow_.Fill(offset, bytes, ByteState::kUninitialized);
}

void DeviceMemory::BlockFreed(void* pointer, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto* holder = HolderOf(pointer, bytes);
  if (holder == nullptr) return;
  const auto block = holder->second.blocks.find(Offset(pointer));
  if (block != holder->second.blocks.end()) block->second.live = false;
  shadow_.Fill(Offset(pointer), bytes, ByteState::kFreed);
}

std::string DeviceMemory::Describe(const void* pointer) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const size_t offset = Offset(pointer);
  if (!Contains(pointer)) return Format("%p, which is not memory of device %d", pointer, device_);
  if (offset >= shared_offset_) {
    return Format("byte %zu of shared memory", offset - shared_offset_);
  }
  const auto* found = FindAllocation(offset);
  if (found == nullptr) return Format("%p, before all allocations", pointer);
  const auto& [begin, allocation] = *found;
  auto describe = [&](const char* what, size_t start, size_t bytes, bool live) {
    const size_t into = offset - start;
    std::string text = into < bytes || !live ? Format("byte %zu", into)
                                             : Format("%zu bytes past the end", into - bytes);
    return text + Format(" of the %s%zu-byte %s at 0x%" PRIxPTR, live ? "" : "freed ", bytes, what,
                         begin_ + start);
  };
  if (allocation.live && !allocation.blocks.empty()) {
    const auto block = allocation.blocks.upper_bound(offset);
    if (block != allocation.blocks.begin()) {
      const auto& [start, known] = *std::prev(block);
      return describe("pool block", start, known.bytes, known.live);
    }
  }
  return describe("allocation", begin, allocation.bytes, allocation.live);
}

void DeviceMemory::Open() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (num_open_++ == 0 &&
      mprotect(reinterpret_cast<void*>(begin_), range_bytes_, PROT_READ | PROT_WRITE) != 0) {
    perror("emulated device: open memory");
    abort();
  }
}

void DeviceMemory::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (--num_open_ == 0 && mprotect(reinterpret_cast<void*>(begin_), range_bytes_, PROT_NONE) != 0) {
    perror("emulated device: close memory");
    abort();
  }
}

void* PinnedMemory::Allocate(size_t bytes) {
  const size_t pages = RoundToPages(bytes) + kPageBytes;
  void* memory = mmap(nullptr, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  // An overrun of the last page meets one that nobody may touch.
  mprotect(static_cast<unsigned char*>(memory) + pages - kPageBytes, kPageBytes, PROT_NONE);
  const std::lock_guard<std::mutex> lock(mutex_);
  blocks_[reinterpret_cast<uintptr_t>(memory)] = bytes;
  return memory;
}

bool PinnedMemory::Free(void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = blocks_.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == blocks_.end()) return false;
  munmap(pointer, RoundToPages(found->second) + kPageBytes);
  blocks_.erase(found);
  return true;
}

bool PinnedMemory::Contains(const void* pointer, size_t bytes) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  const auto next = blocks_.upper_bound(address);
  if (next == blocks_.begin()) return false;
  const auto& [begin, block_bytes] = *std::prev(next);
  return address + bytes <= begin + block_bytes;
}

bool IsReadOnlyProgramData(const void* pointer, size_t bytes) {
  struct Query {
    uintptr_t begin;
    uintptr_t end;
    bool found;
  } query = {reinterpret_cast<uintptr_t>(pointer), reinterpret_cast<uintptr_t>(pointer) + bytes,
             false};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& wanted = *static_cast<Query*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          const bool constant = (segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0) ||
                                segment.p_type == PT_GNU_RELRO;
          const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
          if (constant && wanted.begin >= begin && wanted.end <= begin + segment.p_memsz) {
            wanted.found = true;
          }
        }
        return wanted.found ? 1 : 0;
      },
      &query);
  return query.found;
}

}  // namespace trireme::emulation
