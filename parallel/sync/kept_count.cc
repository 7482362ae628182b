#include "parallel/sync/kept_count.h"

#include <cmath>

#include "parallel/sync/block_codec.h"

namespace trireme {

StatusOr<KeptCount> KeptCount::Create(absl::string_view codec, const Params& params) {
  KeptCount kept;
  kept.codec_ = std::string(codec);
  kept.k_ = params.Int("k");
  kept.fraction_ = params.Float("fraction");
  kept.block_ = params.Int("block");
  if (kept.k_ == 0 && kept.fraction_ == 0) {
    return absl::InvalidArgumentError(absl::StrCat(codec, " keeps nothing: k and fraction are 0"));
  }
  if (kept.block_ != 0 && kept.k_ > kept.block_) {
    return absl::InvalidArgumentError(
        absl::StrCat(codec, ": k = ", kept.k_, " is larger than its blocks of ", kept.block_));
  }
  return kept;
}

int64_t KeptCount::Of(int64_t n) const {
  const int64_t wanted = k_ != 0 ? k_ : std::llround(fraction_ * static_cast<double>(n));
  return std::clamp<int64_t>(wanted, 1, n);
}

double KeptCount::Share(const Shape& parameter) const {
  return MinOverBlocks(parameter, block_,
                       [&](int64_t n) { return static_cast<double>(Of(n)) / n; });
}

Status KeptCount::Check(const Shape& parameter) const {
  if (k_ <= parameter.numel()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(codec_, ": k = ", k_, " is larger than the vector ", parameter.ToString()));
}

}  // namespace trireme
