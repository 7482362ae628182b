// How well a byte is predicted by the bytes before it: H_k = H(x_i | x_{i-k} ... x_{i-1}) of a
// corpus, in bits, for k = 0 ... 3. A language model's loss in bits per byte is worth something
// below H_3.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/status.h"

namespace trireme {

inline constexpr int kMaxEntropyOrder = 3;

class NgramEntropy {
 public:
  // The next bytes of the corpus, in pieces of any size. Memory grows with the number of distinct
  // sequences of 4 bytes, up to max_sequences of them; when there are more (it is not text),
  // further ones are dropped and BitsPerByte fails.
  void Add(absl::string_view bytes);

  // H_0 ... H_3. Order k counts the bytes that have k bytes before them; it is 0 when there are
  // none. RESOURCE_EXHAUSTED as said above.
  StatusOr<std::vector<double>> BitsPerByte() const;

  explicit NgramEntropy(size_t max_sequences = 4 << 20) : max_sequences_(max_sequences) {}

 private:
  // Sequences of 4 bytes, the oldest in the highest byte. Those of fewer bytes are suffixes of
  // these, but for the ones in the first 3 bytes of the corpus.
  absl::flat_hash_map<uint32_t, int64_t> counts_;
  std::string first_bytes_;
  uint32_t last_bytes_ = 0;
  size_t max_sequences_;
  bool overflowed_ = false;
};

// Of the files (plain or gzip), one after another.
StatusOr<std::vector<double>> CorpusBitsPerByte(absl::Span<const std::string> files);

}  // namespace trireme
