#include "data/ngram_entropy.h"

#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"

#include "data/input_file.h"

namespace trireme {
namespace {

using Counts = absl::flat_hash_map<uint32_t, int64_t>;

// H(last byte | the others) = sum over contexts c of N(c) log2 N(c) - sum over sequences s of
// N(s) log2 N(s), divided by the number of sequences.
double ConditionalEntropy(const Counts& sequences) {
  Counts contexts;
  int64_t total = 0;
  double entropy = 0;
  for (const auto& [sequence, count] : sequences) {
    contexts[sequence >> 8] += count;
    total += count;
    entropy -= count * std::log2(count);
  }
  for (const auto& [context, count] : contexts) entropy += count * std::log2(count);
  return total == 0 ? 0 : entropy / total;
}

}  // namespace

void NgramEntropy::Add(absl::string_view bytes) {
  for (const char c : bytes) {
    last_bytes_ = last_bytes_ << 8 | static_cast<uint8_t>(c);
    if (first_bytes_.size() < kMaxEntropyOrder) {
      first_bytes_.push_back(c);
      continue;
    }
    const auto found = counts_.find(last_bytes_);
    if (found != counts_.end()) {
      ++found->second;
    } else if (counts_.size() < max_sequences_) {
      counts_.emplace(last_bytes_, 1);
    } else {
      overflowed_ = true;
    }
  }
}

StatusOr<std::vector<double>> NgramEntropy::BitsPerByte() const {
  if (overflowed_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", max_sequences_, " distinct sequences of 4 bytes: not text"));
  }
  std::vector<double> entropies;
  for (int order = 0; order <= kMaxEntropyOrder; ++order) {
    const uint32_t mask = ~uint32_t{0} >> (8 * (kMaxEntropyOrder - order));
    Counts sequences;
    for (const auto& [sequence, count] : counts_) sequences[sequence & mask] += count;
    uint32_t last_bytes = 0;
    for (size_t i = 0; i < first_bytes_.size(); ++i) {
      last_bytes = last_bytes << 8 | static_cast<uint8_t>(first_bytes_[i]);
      if (i >= static_cast<size_t>(order)) ++sequences[last_bytes & mask];
    }
    entropies.push_back(ConditionalEntropy(sequences));
  }
  return entropies;
}

StatusOr<std::vector<double>> CorpusBitsPerByte(absl::Span<const std::string> files) {
  NgramEntropy entropy;
  std::string buffer(1 << 18, '\0');
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(const std::unique_ptr<InputFile> file, InputFile::Open(path));
    for (;;) {
      ASSIGN_OR_RETURN(const size_t n, file->Read(buffer.data(), buffer.size()));
      entropy.Add({buffer.data(), n});
      if (n < buffer.size()) break;
    }
  }
  return entropy.BitsPerByte();
}

}  // namespace trireme
