#include "data/mqar_dataset.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"

namespace trireme {
namespace {

// The random numbers of one sample, in order.
class Draws {
 public:
  Draws(uint64_t seed, Split split, int64_t index)
      : key_(MakeRngKey(seed, absl::StrCat("mqar ", SplitName(split)), index)) {}

  double Uniform() { return UniformAt(key_, next_++); }
  int64_t Below(int64_t limit) {
    return std::min(limit - 1, static_cast<int64_t>(Uniform() * static_cast<double>(limit)));
  }

 private:
  const RngKey key_;
  uint64_t next_ = 0;
};

// `count` different numbers, each the first new one that `draw` gives.
template <typename Draw>
std::vector<int64_t> Different(int64_t count, const Draw& draw) {
  std::vector<int64_t> numbers;
  absl::flat_hash_set<int64_t> seen;
  while (static_cast<int64_t>(numbers.size()) < count) {
    const int64_t number = draw();
    if (seen.insert(number).second) numbers.push_back(number);
  }
  return numbers;
}

class Mqar final : public Dataset {
 public:
  Mqar(const Params& params, int64_t length)
      : num_pairs_(params.Int("num_pairs")),
        vocabulary_size_(params.Int("vocabulary_size")),
        num_samples_(params.Int("num_samples")),
        num_validation_samples_(params.Int("num_validation_samples")),
        power_(params.Float("power")),
        seed_(params.Int("seed")),
        length_(length) {
    double sum = 0;
    for (int64_t d = 1; d <= NumPlaces(length, num_pairs_); ++d) {
      cumulative_.push_back(sum += std::pow(static_cast<double>(d), power_ - 1));
    }
  }

  // Where a query may stand after the pairs, every other token.
  static int64_t NumPlaces(int64_t length, int64_t num_pairs) {
    return (length - 2 * num_pairs) / 2;
  }

  int64_t num_samples(Split split) const override {
    return split == Split::kTrain ? num_samples_ : num_validation_samples_;
  }
  int64_t num_classes() const override { return vocabulary_size_; }
  bool is_text() const override { return true; }
  bool has_accuracy() const override { return true; }
  Shape feature_shape() const override { return Shape(); }
  uint64_t fingerprint() const override {
    return StableHash(absl::StrCat("mqar ", num_pairs_, " ", vocabulary_size_, " ", num_samples_,
                                   " ", num_validation_samples_, " ", power_, " ", length_),
                      seed_);
  }

  Status Fill(Split split, absl::Span<const SampleRef> refs, HostBatch* batch) const override {
    *batch = HostBatch();
    for (const SampleRef& ref : refs) {
      CHECK(ref.index >= 0 && ref.index < num_samples(split))
          << "sample " << ref.index << " of " << num_samples(split);
      Add(split, ref.index, batch);
      batch->segments.push_back({ref.sample, 0, length_});
    }
    batch->documents = batch->segments;
    return absl::OkStatus();
  }

 private:
  void Add(Split split, int64_t index, HostBatch* batch) const {
    Draws draws(seed_, split, index);
    const int64_t half = vocabulary_size_ / 2;
    const std::vector<int64_t> keys =
        Different(num_pairs_, [&] { return 1 + draws.Below(half - 1); });
    const std::vector<int64_t> values =
        Different(num_pairs_, [&] { return half + draws.Below(vocabulary_size_ - half); });
    const std::vector<int64_t> places = Different(num_pairs_, [&] { return Place(draws); });
    const size_t begin = batch->tokens.size();
    for (int64_t i = 0; i < length_; ++i) {
      batch->tokens.push_back(static_cast<int32_t>(draws.Below(vocabulary_size_)));
    }
    batch->labels.resize(begin + length_, kIgnoredLabel);
    for (int64_t pair = 0; pair < num_pairs_; ++pair) {
      batch->tokens[begin + 2 * pair] = static_cast<int32_t>(keys[pair]);
      batch->tokens[begin + 2 * pair + 1] = static_cast<int32_t>(values[pair]);
      const int64_t query = begin + 2 * (num_pairs_ + places[pair]);
      batch->tokens[query] = static_cast<int32_t>(keys[pair]);
      batch->labels[query] = static_cast<int32_t>(values[pair]);
    }
  }

  int64_t Place(Draws& draws) const {
    const double u = draws.Uniform() * cumulative_.back();
    const auto place = std::lower_bound(cumulative_.begin(), cumulative_.end(), u);
    return std::min<int64_t>(place - cumulative_.begin(), cumulative_.size() - 1);
  }

  const int64_t num_pairs_, vocabulary_size_, num_samples_, num_validation_samples_;
  const double power_;
  const uint64_t seed_;
  const int64_t length_;
  std::vector<double> cumulative_;  // Over the places of a query, not normalized.
};

}  // namespace

StatusOr<std::unique_ptr<Dataset>> MakeMqar(const Params& params, const DatasetContext& context) {
  const int64_t pairs = params.Int("num_pairs"), vocabulary = params.Int("vocabulary_size");
  if (context.sequence_length < 4 * pairs) {
    return absl::InvalidArgumentError(absl::StrCat("mqar: num_pairs = ", pairs,
                                                   " needs a sequence_length of at least ",
                                                   4 * pairs, ", not ", context.sequence_length));
  }
  if (vocabulary / 2 - 1 < pairs) {
    return absl::InvalidArgumentError(absl::StrCat("mqar: num_pairs = ", pairs,
                                                   " needs a vocabulary_size of at least ",
                                                   2 * (pairs + 1), ", not ", vocabulary));
  }
  return std::make_unique<Mqar>(params, context.sequence_length);
}

}  // namespace trireme
