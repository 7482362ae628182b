// Decodes and remembers: the same workers tend to be late together, and a decoding of the codes
// that solve a system is worth keeping.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>

#include "parallel/coding/gradient_code.h"

namespace trireme {

class Decoder {
 public:
  // `code` must outlive it. The `capacity` decodings that were asked for last are kept.
  explicit Decoder(const GradientCode& code, size_t capacity = 64);

  // What code.Decode says. The decoding stays valid until the next call.
  StatusOr<const Decoding*> Decode(absl::Span<const uint64_t> arrived);

  int64_t num_solved() const { return num_solved_; }  // Calls that found nothing kept.

 private:
  using Kept = std::list<std::pair<std::string, Decoding>>;  // By the bytes of the masks.

  const GradientCode& code_;
  const size_t capacity_;
  int64_t num_solved_ = 0;
  Kept kept_;  // The last one asked for first.
  std::unordered_map<std::string, Kept::iterator> places_;
};

}  // namespace trireme
