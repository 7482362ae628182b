// Fractional repetition: k = floor(n / (s + 1)) groups of ceil(n / k) or floor(n / k) workers, all
// at least s + 1. Load 1 / k, which is (s + 1) / n when s + 1 divides n. Any s stragglers are
// tolerated, and more when no group is lost whole.
//
// Tandon et al., "Gradient coding" (ICML 2017), section 4; any n as in Charalambides, Mahdavifar,
// Hero, "Generalized fractional repetition codes" (2021).
#include <string>

#include "parallel/coding/group_code.h"

namespace trireme {
namespace {

class GroupCode : public GradientCode {
 public:
  GroupCode(absl::string_view name, CodeShape shape)
      : GradientCode(std::move(shape)), name_(name), num_groups_(this->shape().num_parts()) {}

  Message MessageOf(int worker, int) const override { return {{{worker % num_groups_, 1.0}}}; }
  double LoadOf(int, int) const override { return shape().load; }

  bool Decodes(absl::Span<const uint64_t> arrived) const override {
    for (int group = 0; group < num_groups_; ++group) {
      if (FirstOf(group, arrived) < 0) return false;
    }
    return true;
  }

  StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const override {
    Decoding decoding;
    for (int group = 0; group < num_groups_; ++group) {
      const int worker = FirstOf(group, arrived);
      if (worker < 0) return CannotDecode(name_, shape(), arrived);
      decoding.terms.push_back({worker, 0, 0, 1.0});
    }
    return decoding;
  }

 private:
  int FirstOf(int group, absl::Span<const uint64_t> arrived) const {
    for (int worker = group; worker < shape().num_workers; worker += num_groups_) {
      if (arrived[worker] & 1) return worker;
    }
    return -1;
  }

  const std::string name_;
  const int num_groups_;
};

}  // namespace

std::unique_ptr<GradientCode> MakeGroupCode(absl::string_view name, int num_workers,
                                            int num_groups) {
  CodeShape shape;
  shape.num_workers = num_workers;
  shape.load = 1.0 / num_groups;
  shape.tolerates.per_round = num_workers / num_groups - 1;
  shape.part_units.assign(num_groups, 1);
  return std::make_unique<GroupCode>(name, std::move(shape));
}

StatusOr<std::unique_ptr<GradientCode>> MakeFractionalRepetition(int num_workers,
                                                                 const Params& params) {
  const int s = static_cast<int>(params.Int("s"));
  return MakeGroupCode("fractional_repetition", num_workers, num_workers / (s + 1));
}

}  // namespace trireme
