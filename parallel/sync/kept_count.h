// How many elements of a block the sparse codecs (top_k, rand_k) keep: k, or a fraction.
#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

inline constexpr ParamInfo kKeptCountParams[] = {
    {"k", ParamType::kInt, "0", "elements kept of each block; 0: by fraction", 0},
    {"fraction", ParamType::kFloat, "0.01", "share kept of each block, one element at least", 0, 1},
    {"block", ParamType::kInt, "4096", "elements of a block; 0: the whole parameter", 0},
};

class KeptCount {
 public:
  // INVALID_ARGUMENT for neither k nor a fraction, and for a k larger than the block.
  static StatusOr<KeptCount> Create(absl::string_view codec, const Params& params);

  // Of a block of n > 0 elements: in [1, n]. A last block shorter than k goes whole.
  int64_t Of(int64_t n) const;
  // min over blocks of Of(n) / n.
  double Share(const Shape& parameter) const;
  // INVALID_ARGUMENT for a k larger than the vector.
  Status Check(const Shape& parameter) const;

  int64_t block() const { return block_; }

 private:
  KeptCount() = default;

  std::string codec_;
  int64_t k_ = 0, block_ = 0;
  double fraction_ = 0;
};

}  // namespace trireme
