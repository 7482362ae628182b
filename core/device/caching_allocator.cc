#include "core/device/caching_allocator.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/log.h"

namespace trireme {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kSegmentGrain = size_t{2} << 20;

size_t RoundUp(size_t bytes, size_t grain) { return (bytes + grain - 1) / grain * grain; }

std::string FormatBytes(int64_t bytes) {
  if (bytes < 1 << 20) return absl::StrFormat("%.1f KiB", bytes / 1024.0);
  if (bytes < 1 << 30) return absl::StrFormat("%.1f MiB", bytes / 1048576.0);
  return absl::StrFormat("%.2f GiB", bytes / 1073741824.0);
}

// By what holds most.
const char* Advice(const MemoryStats& stats) {
  const auto largest = std::max_element(stats.current_bytes.begin(), stats.current_bytes.end());
  switch (static_cast<MemoryKind>(largest - stats.current_bytes.begin())) {
    case MemoryKind::kActivations:
    case MemoryKind::kWorkspace:
      return "a smaller micro-batch with more accumulation, activation recomputation, shorter "
             "sequences, or more ranks on the sequence, tensor or pipeline axis";
    case MemoryKind::kParameters:
    case MemoryKind::kGradients:
    case MemoryKind::kOptimizer:
      return "more ranks on the shard, tensor or pipeline axis, bf16 parameters, or an optimizer "
             "with less state";
    case MemoryKind::kCommunication:
      return "smaller gradient buckets";
  }
  return "";
}

}  // namespace

CachingAllocator::~CachingAllocator() {
  // A programmer error, but not worth hiding another: a rank that fails may leave a block with MPI.
  if (!used_.empty()) {
    LOG(ERROR) << used_.size() << " blocks outlive their device, one of '"
               << *used_.begin()->second->label << "'; their memory is lost";
  }
  ReleaseFreeSegments();
}

StatusOr<Block> CachingAllocator::Allocate(size_t bytes, MemoryKind kind, absl::string_view label) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // Larger than any address space: a negative size or a product that overflowed.
  if (bytes > size_t{1} << 56) return OutOfMemory(bytes, kind, label);
  const size_t rounded = RoundUp(std::max<size_t>(bytes, 1), kAlignment);
  Chunk* chunk = FindFree(rounded);
  if (chunk == nullptr) chunk = AddSegment(rounded);
  if (chunk == nullptr) {
    ReleaseFreeSegments();
    chunk = AddSegment(rounded);
  }
  if (chunk == nullptr) return OutOfMemory(bytes, kind, label);
  Split(chunk, rounded);
  free_.erase(chunk);
  source_->HandedOut(chunk->data, bytes);
  chunk->block = Block{chunk->data, bytes, kind};
  auto interned = labels_.find(label);
  if (interned == labels_.end()) interned = labels_.insert(std::string(label)).first;
  chunk->label = &*interned;
  used_.emplace(chunk->data, chunk);

  const int k = static_cast<int>(kind);
  stats_.current_bytes[k] += bytes;
  stats_.peak_bytes[k] = std::max(stats_.peak_bytes[k], stats_.current_bytes[k]);
  stats_.current_total_bytes += bytes;
  stats_.peak_total_bytes = std::max(stats_.peak_total_bytes, stats_.current_total_bytes);
  return chunk->block;
}

void CachingAllocator::Free(const Block& block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = used_.find(block.data);
  CHECK(it != used_.end()) << "freed twice, or never allocated here";
  Chunk* chunk = it->second;
  used_.erase(it);
  stats_.current_bytes[static_cast<int>(chunk->block.kind)] -= chunk->block.bytes;
  stats_.current_total_bytes -= chunk->block.bytes;
  source_->TakenBack(chunk->data, chunk->bytes);
  chunk->label = nullptr;
  if (chunk->next != nullptr && chunk->next->label == nullptr) {
    free_.erase(chunk->next);
    MergeWithNext(chunk);
  }
  Chunk* previous = chunk->previous;
  if (previous != nullptr && previous->label == nullptr) {
    free_.erase(previous);
    MergeWithNext(previous);
    chunk = previous;
  }
  free_.insert(chunk);
}

bool CachingAllocator::Owns(const void* data) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return used_.contains(data);
}

MemoryStats CachingAllocator::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void CachingAllocator::ResetPeaks() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stats_.peak_bytes = stats_.current_bytes;
  stats_.peak_total_bytes = stats_.current_total_bytes;
}

CachingAllocator::Chunk* CachingAllocator::FindFree(size_t bytes) const {
  Chunk wanted{nullptr, bytes, false};
  const auto it = free_.lower_bound(&wanted);
  return it == free_.end() ? nullptr : *it;
}

CachingAllocator::Chunk* CachingAllocator::AddSegment(size_t bytes) {
  const size_t segment_bytes = RoundUp(bytes, kSegmentGrain);
  if (limit_bytes_ > 0 &&
      stats_.reserved_bytes + static_cast<int64_t>(segment_bytes) > limit_bytes_) {
    return nullptr;
  }
  void* data = source_->Allocate(segment_bytes);
  if (data == nullptr) return nullptr;
  source_->TakenBack(data, segment_bytes);
  stats_.reserved_bytes += segment_bytes;
  ++stats_.system_allocations;
  Chunk* chunk = new Chunk{static_cast<char*>(data), segment_bytes, true};
  free_.insert(chunk);
  return chunk;
}

void CachingAllocator::ReleaseFreeSegments() {
  for (auto it = free_.begin(); it != free_.end();) {
    Chunk* chunk = *it;
    if (!chunk->first || chunk->next != nullptr) {
      ++it;
      continue;
    }
    it = free_.erase(it);
    stats_.reserved_bytes -= chunk->bytes;
    source_->Free(chunk->data, chunk->bytes);
    delete chunk;
  }
}

// Cuts the free `chunk` after `bytes`; the rest becomes a free chunk.
void CachingAllocator::Split(Chunk* chunk, size_t bytes) {
  if (chunk->bytes == bytes) return;
  free_.erase(chunk);
  Chunk* rest = new Chunk{chunk->data + bytes, chunk->bytes - bytes, false};
  rest->previous = chunk;
  rest->next = chunk->next;
  if (rest->next != nullptr) rest->next->previous = rest;
  chunk->next = rest;
  chunk->bytes = bytes;
  free_.insert(chunk);
  free_.insert(rest);
}

// Swallows the next chunk. Neither is in free_.
void CachingAllocator::MergeWithNext(Chunk* chunk) {
  Chunk* next = chunk->next;
  chunk->bytes += next->bytes;
  chunk->next = next->next;
  if (chunk->next != nullptr) chunk->next->previous = chunk;
  delete next;
}

Status CachingAllocator::OutOfMemory(size_t bytes, MemoryKind kind, absl::string_view label) const {
  std::string text = absl::StrCat("cannot allocate ", FormatBytes(bytes), " of ",
                                  MemoryKindName(kind), " for '", label, "': ");
  if (limit_bytes_ > 0) {
    absl::StrAppend(&text, "the limit is ", FormatBytes(limit_bytes_));
  } else {
    absl::StrAppend(&text, source_->name(), " refused");
  }
  const int64_t largest_free = free_.empty() ? 0 : (*free_.rbegin())->bytes;
  absl::StrAppend(&text, ", ", FormatBytes(stats_.reserved_bytes), " are held from ",
                  source_->name(), ", the largest free block has ", FormatBytes(largest_free), "\n",
                  FormatMemoryStats(stats_));

  struct Holder {
    int64_t bytes = 0, count = 0;
  };
  std::map<std::string, Holder> by_label;
  for (const auto& [data, chunk] : used_) {
    Holder& holder = by_label[*chunk->label];
    holder.bytes += chunk->block.bytes;
    ++holder.count;
  }
  std::vector<std::pair<std::string, Holder>> holders(by_label.begin(), by_label.end());
  std::stable_sort(holders.begin(), holders.end(),
                   [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
  if (holders.size() > 10) holders.resize(10);
  absl::StrAppend(&text, "largest holders:\n");
  for (const auto& [name, holder] : holders) {
    absl::StrAppendFormat(&text, "  %12s in %d blocks: %s\n", FormatBytes(holder.bytes),
                          holder.count, name);
  }
  absl::StrAppend(&text, "what would help: ", Advice(stats_));
  return absl::ResourceExhaustedError(text);
}

}  // namespace trireme
