// Fractional repetition whose redundancy can change from job to job while every worker keeps its
// parts: groups of 2^q workers or more are halved again and again, down to 2^q halves each with a
// part of its own. Level l of a job (History) repeats every part in 2^(q - l) workers: level 0
// tolerates s = 2^q - 1 stragglers, level q none. Message l is the sum of the 2^(q - l) parts of
// the worker's half at that level.
#include <bit>

#include "absl/strings/str_cat.h"

#include "parallel/coding/gradient_code.h"

namespace trireme {
namespace {

class NestedCode : public GradientCode {
 public:
  NestedCode(CodeShape shape, int num_groups)
      : GradientCode(std::move(shape)),
        num_groups_(num_groups),
        num_leaves_(this->shape().num_parts() / num_groups) {
    const int n = this->shape().num_workers;
    for (int worker = 0; worker < n; ++worker) {
      int place = worker / num_groups, size = (n - worker % num_groups - 1) / num_groups + 1;
      int leaf = 0;
      for (int halves = num_leaves_; halves > 1; halves /= 2) {
        const int first = (size + 1) / 2;
        const bool second = place >= first;
        leaf = 2 * leaf + second;
        place -= second ? first : 0;
        size = second ? size - first : first;
      }
      leaves_.push_back(leaf);
    }
  }

  void Assign(const History& history, int age, absl::Span<int> messages) const override {
    const int level = history.level(history.round() - age);
    for (int& message : messages) message = level;
  }

  Message MessageOf(int worker, int message) const override {
    const int size = num_leaves_ >> message;
    const int first = worker % num_groups_ * num_leaves_ + leaves_[worker] / size * size;
    Message content;
    for (int part = first; part < first + size; ++part) content.parts.push_back({part, 1.0});
    return content;
  }

  double LoadOf(int, int message) const override {
    return double(num_leaves_ >> message) / shape().num_parts();
  }

  bool Decodes(absl::Span<const uint64_t> arrived) const override { return Decode(arrived).ok(); }

  StatusOr<Decoding> Decode(absl::Span<const uint64_t> arrived) const override {
    Decoding decoding;
    for (int group = 0; group < num_groups_; ++group) {
      for (int leaf = 0; leaf < num_leaves_;) {
        // The largest half beginning here that somebody has sent.
        int message = 0, worker = -1;
        for (; message < shape().num_messages; ++message) {
          const int size = num_leaves_ >> message;
          if (leaf % size != 0) continue;
          worker = Sender(group, leaf, size, message, arrived);
          if (worker >= 0) break;
        }
        if (worker < 0) return CannotDecode("nested", shape(), arrived);
        decoding.terms.push_back({worker, message, 0, 1.0});
        leaf += num_leaves_ >> message;
      }
    }
    return decoding;
  }

 private:
  int Sender(int group, int leaf, int size, int message, absl::Span<const uint64_t> arrived) const {
    for (int worker = group; worker < shape().num_workers; worker += num_groups_) {
      if (leaves_[worker] / size == leaf / size && arrived[worker] >> message & 1) return worker;
    }
    return -1;
  }

  const int num_groups_, num_leaves_;  // Leaves of each group.
  std::vector<int> leaves_;            // By worker, within its group.
};

}  // namespace

StatusOr<std::unique_ptr<GradientCode>> MakeNested(int num_workers, const Params& params) {
  const int copies = static_cast<int>(params.Int("s")) + 1;
  if (!std::has_single_bit(static_cast<unsigned>(copies))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "nested: s = ", copies - 1, ", must be one less than a power of two: 0, 1, 3, 7, ..."));
  }
  const int num_groups = num_workers / copies;
  CodeShape shape;
  shape.num_workers = num_workers;
  shape.num_messages = std::countr_zero(static_cast<unsigned>(copies)) + 1;
  shape.load = 1.0 / num_groups;
  shape.tolerates.per_round = num_workers / num_groups - 1;
  shape.part_units.assign(num_groups * copies, 1);
  return std::make_unique<NestedCode>(std::move(shape), num_groups);
}

}  // namespace trireme
