#include "tests/cuda_emulation/nccl_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

namespace trireme::emulation {

size_t Ring::Put(const void* data, size_t size) {
  const uint64_t at = written.load(std::memory_order_relaxed);
  const size_t room = kRingBytes - static_cast<size_t>(at - read.load(std::memory_order_acquire));
  const size_t n = std::min(size, room);
  const size_t start = at % kRingBytes;
  const size_t first = std::min(n, kRingBytes - start);
  memcpy(bytes + start, data, first);
  memcpy(bytes, static_cast<const unsigned char*>(data) + first, n - first);
  written.store(at + n, std::memory_order_release);
  return n;
}

size_t Ring::Get(void* data, size_t size) {
  const uint64_t at = read.load(std::memory_order_relaxed);
  const size_t there = static_cast<size_t>(written.load(std::memory_order_acquire) - at);
  const size_t n = std::min(size, there);
  const size_t start = at % kRingBytes;
  const size_t first = std::min(n, kRingBytes - start);
  memcpy(data, bytes + start, first);
  memcpy(static_cast<unsigned char*>(data) + first, bytes, n - first);
  read.store(at + n, std::memory_order_release);
  return n;
}

std::unique_ptr<Segment> Segment::Attach(const std::string& name, int num_ranks, int rank,
                                         int device) {
  const size_t num_rings = 2 * static_cast<size_t>(num_ranks) * static_cast<size_t>(num_ranks);
  const size_t bytes = sizeof(Shared) + num_rings * sizeof(Ring);
  // Zeros, whoever comes first.
  const int file = shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
    perror("emulated NCCL: shared memory");
    if (file >= 0) close(file);
    return nullptr;
  }
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) {
    perror("emulated NCCL: shared memory");
    return nullptr;
  }
  auto* shared = static_cast<Shared*>(memory);
  shared->device[rank] = device;
  shared->present[rank].store(1, std::memory_order_release);
  return std::unique_ptr<Segment>(new Segment(name, num_ranks, shared, bytes));
}

Segment::~Segment() {
  Unlink();
  munmap(shared_, bytes_);
}

bool Segment::AllPresent() const {
  return std::all_of(shared_->present, shared_->present + num_ranks_, [](const auto& present) {
    return present.load(std::memory_order_acquire) != 0;
  });
}

int Segment::FirstOfDuplicates() const {
  for (int i = 0; i < num_ranks_; ++i) {
    for (int j = i + 1; j < num_ranks_; ++j) {
      if (shared_->device[i] == shared_->device[j]) return i;
    }
  }
  return -1;
}

void Segment::Unlink() { shm_unlink(name_.c_str()); }

Ring& Segment::ring(bool collective, int from, int to) const {
  return shared_->rings[((collective ? num_ranks_ : 0) + from) * num_ranks_ + to];
}

}  // namespace trireme::emulation
