// What a rank holds of parameters, gradients and optimizer states at the worst moment of a step,
// against the closed forms of the ZeRO stages (Rajbhandari et al. 2020).
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <numeric>

#include "absl/strings/str_cat.h"

#include "tests/launch/trainers.h"

namespace trireme {
namespace {

// Unembedding and embedding are a little larger than a layer.
constexpr char kModel[] = R"(
  run_dir: "unused"
  model {
    name: "transformer" width: 64 num_layers: 6 mlp_width: 192 layers: "S"
    S { name: "softmax" heads: 4 }
  }
  data {
    dataset { name: "synthetic" vocabulary_size: 1021 num_tokens: 20000 validation_fraction: 0 }
    sequence_length: 16
  }
  batch { global_batch_size: 8 micro_batch_size: 1 }
  num_steps: 3
  optimizer { name: "adamw" }
  learning_rate: 0.001
)";

struct Peaks {
  int64_t parameters = 0, gradients = 0, optimizer = 0;
  int64_t total() const { return parameters + gradients + optimizer; }
};

struct Sizes {
  std::vector<int64_t> units;  // Elements.
  int64_t all() const { return std::accumulate(units.begin(), units.end(), int64_t{0}); }
};

// Of the rank that has most, from before the model is made on.
Peaks PeaksOf(int num_ranks, const std::vector<std::string>& assignments, Sizes* sizes = nullptr) {
  const RunConfig config = testing::ResolvedConfig(kModel, num_ranks, assignments);
  Peaks peaks;
  std::mutex mutex;
  testing::OnTrainers(config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
    for (int64_t step = 0; step < config.num_steps(); ++step) {
      RETURN_IF_ERROR(rank.trainer.Step().status());
    }
    const MemoryStats stats = rank.device.stats();
    const auto peak = [&](MemoryKind kind) { return stats.peak_bytes[static_cast<int>(kind)]; };
    const std::lock_guard<std::mutex> lock(mutex);
    peaks.parameters = std::max(peaks.parameters, peak(MemoryKind::kParameters));
    peaks.gradients = std::max(peaks.gradients, peak(MemoryKind::kGradients));
    peaks.optimizer = std::max(peaks.optimizer, peak(MemoryKind::kOptimizer));
    if (sizes != nullptr && rank.world.rank() == 0) {
      sizes->units.assign(rank.trainer.model().num_units(), 0);
      for (const auto& parameter : rank.trainer.model().parameters().parameters()) {
        sizes->units[parameter->unit()] += parameter->spec.global.numel();
      }
    }
    return absl::OkStatus();
  });
  return peaks;
}

// Bytes, for a model of `sizes` on one rank or four. `working`: of an element of a working copy;
// everything else has four. A working copy of f32 that is always there has the owned slice inside
// it.
Peaks ClosedForm(const Sizes& sizes, int stage, int num_ranks, int64_t working) {
  const int64_t all = sizes.all(), owned = all / num_ranks;
  // The ends of the model and the layers next to them: what is gathered together, and whose
  // gradients are in the making and on their way together.
  const int64_t end = std::max(sizes.units.front(), sizes.units.back()),
                two_units = end + sizes.units[1];
  Peaks peaks;
  peaks.optimizer = 8 * owned;
  peaks.parameters =
      stage == 3 ? 4 * owned + working * two_units : working * all + (working == 4 ? 0 : 4 * owned);
  peaks.gradients = 4 * owned;
  if (stage == 1 && num_ranks > 1) peaks.gradients += 4 * all;
  // The head's is made before backward comes to it, and then adopted or added to the whole.
  peaks.gradients += 4 * (stage > 1 ? two_units : end);
  return peaks;
}

void ExpectWithin(double part, int64_t actual, int64_t expected, const char* what) {
  EXPECT_NEAR(actual, expected, part * expected) << what;
}

TEST(ShardingMemoryTest, EachStageHoldsItsClosedForm) {
  for (const auto& [dtype, working] : {std::pair("f32", 4), std::pair("bf16", 2)}) {
    for (int stage = 0; stage <= 3; ++stage) {
      SCOPED_TRACE(absl::StrCat(dtype, " stage ", stage));
      const int num_ranks = stage == 0 ? 1 : 4;
      std::vector<std::string> assignments = {absl::StrCat("dtype=", dtype),
                                              absl::StrCat("mesh.shard=", num_ranks)};
      if (stage > 0) assignments.push_back(absl::StrCat("mesh.zero_stage=", stage));
      Sizes sizes;
      const Peaks actual = PeaksOf(num_ranks, assignments, &sizes);
      const Peaks expected = ClosedForm(sizes, stage, num_ranks, working);
      ExpectWithin(0.01, actual.parameters, expected.parameters, "parameters");
      ExpectWithin(0.01, actual.gradients, expected.gradients, "gradients");
      ExpectWithin(0.01, actual.optimizer, expected.optimizer, "optimizer");
    }
  }
}

// A quarter of what one rank has, two gathered units (the larger being the head) and the gradient
// of one: the smaller unit's gradient that is on its way meanwhile is within the tenth.
TEST(ShardingMemoryTest, StageThreeOnFourRanksIsAQuarterAndThreeUnits) {
  for (const int vocabulary : {1021, 8191}) {
    const std::string size = absl::StrCat("data.dataset.vocabulary_size=", vocabulary);
    Sizes sizes;
    const Peaks four = PeaksOf(4, {size, "mesh.shard=4", "mesh.zero_stage=3"}, &sizes);
    const int64_t head = 4 * sizes.units.back(), layer = 4 * sizes.units[1];
    const int64_t bound = 16 * sizes.all() / 4 + (head + layer) + head;
    EXPECT_LE(four.total(), 1.1 * bound) << vocabulary;
    EXPECT_GE(four.total(), 0.9 * bound) << vocabulary;
  }
}

}  // namespace
}  // namespace trireme
