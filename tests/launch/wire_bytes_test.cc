// What a step of training sends on each axis, in the formulas of the literature: Megatron-LM's two
// all-reduces a layer each way, and their halves when the stream is sharded (Korthikanti et al.
// 2022); the stages of ZeRO; an activation and a gradient for each boundary of a pipeline. An
// all-reduce of x bytes over t ranks sends 2 (t - 1) / t x a rank, a gather or a reduce-scatter
// half of it; small ones x (t - 1).
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"

#include "tests/launch/trainers.h"

namespace trireme {
namespace {

constexpr int64_t kWidth = 32, kMlp = 64, kLayers = 3, kVocabulary = 64, kSequence = 16, kBatch = 8;
constexpr int64_t kLayer = 4 * (4 * kWidth * kWidth + 3 * kWidth * kMlp + 2 * kWidth);
constexpr int64_t kEmbedding = 4 * kVocabulary * kWidth, kHead = kEmbedding + 4 * kWidth;
constexpr int64_t kModel = kEmbedding + kLayers * kLayer + kHead;

constexpr char kConfig[] = R"(
  run_dir: "unused"
  model {
    name: "transformer" width: 32 num_layers: 3 mlp_width: 64 layers: "S"
    S { name: "softmax" heads: 4 kv_heads: 4 }
  }
  data {
    dataset { name: "synthetic" vocabulary_size: 64 num_tokens: 5000 validation_fraction: 0 }
    sequence_length: 16
  }
  batch { global_batch_size: 8 micro_batch_size: 1 }
  num_steps: 2
  optimizer { name: "adamw" }
  learning_rate: 0.001
)";

// By rank: what the second step adds on `axis` for any of `purposes`; none given: for any.
std::vector<int64_t> SentBytes(int num_ranks, std::vector<std::string> assignments,
                               const std::string& axis,
                               const std::vector<std::string>& purposes = {}) {
  const RunConfig config = testing::ResolvedConfig(kConfig, num_ranks, assignments);
  std::vector<int64_t> sent(num_ranks);
  testing::OnTrainers(config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
    const auto counted = [&] {
      int64_t bytes = 0;
      for (const auto& [key, value] : rank.tensor_world.journal().SentBytes()) {
        const bool named =
            std::find(purposes.begin(), purposes.end(), key.second) != purposes.end();
        if (key.first == axis && (purposes.empty() || named)) bytes += value;
      }
      return bytes;
    };
    RETURN_IF_ERROR(rank.trainer.Step().status());  // Checks the declarations besides.
    const int64_t before = counted();
    RETURN_IF_ERROR(rank.trainer.Step().status());
    sent[rank.world.rank()] = counted() - before;
    return absl::OkStatus();
  });
  return sent;
}

std::vector<int64_t> Same(int num_ranks, int64_t bytes) {
  return std::vector<int64_t>(num_ranks, bytes);
}

TEST(WireBytesTest, TensorParallelism) {
  const int64_t n = kSequence, stream = 4 * n * kWidth;
  for (const int t : {2, 4}) {
    const std::string tensor = absl::StrCat("mesh.tensor=", t);
    const int64_t half = stream * (t - 1) / t;
    const int64_t vocabulary = (t - 1) * 4 * (n + 2 * n);  // Maxima; sums and the labels' logits.
    // The embedding's sum, and the gradient of what enters the head, besides the layers'.
    EXPECT_EQ(SentBytes(t, {tensor}, "tensor"),
              Same(t, kBatch * (2 * half * (1 + 4 * kLayers + 1) + vocabulary)));
    // The rows that products read are gathered once more in backward rather than kept; gains are
    // summed.
    const int64_t gains = (t - 1) * 4 * kWidth * (2 * kLayers + 1);
    EXPECT_EQ(SentBytes(t, {tensor, "mesh.sharded_stream=true"}, "tensor"),
              Same(t, kBatch * (half * (2 + (8 + 2) * kLayers + 2) + vocabulary) + gains));
  }
}

TEST(WireBytesTest, StagesOfZero) {
  const int s = 4;
  const int64_t items = kBatch / s;
  const int64_t part = kModel / s * (s - 1);
  const auto sent = [&](int stage, const char* purpose) {
    return SentBytes(s, {"mesh.shard=4", absl::StrCat("mesh.zero_stage=", stage)}, "shard+sequence",
                     {purpose});
  };
  EXPECT_EQ(sent(1, "gradients to owners"), Same(s, part));
  EXPECT_EQ(sent(1, "parameters"), Same(s, part));
  EXPECT_EQ(sent(2, "gradients to owners"), Same(s, items * part));
  EXPECT_EQ(sent(2, "parameters"), Same(s, part));
  // The head is gathered once: its backward follows its forward.
  EXPECT_EQ(sent(3, "gradients to owners"), Same(s, items * part));
  EXPECT_EQ(sent(3, "parameters"), Same(s, items * (2 * part - kHead / s * (s - 1))));
}

TEST(WireBytesTest, ReplicasAllReduceTheirGradientsOnce) {
  EXPECT_EQ(SentBytes(2, {"mesh.replica=2"}, "replica", {"gradients"}), Same(2, kModel));
  // Of each owner's quarter, whatever the stage.
  for (const char* stage : {"mesh.zero_stage=1", "mesh.zero_stage=3"}) {
    EXPECT_EQ(SentBytes(4, {"mesh.replica=2", "mesh.shard=2", stage}, "replica", {"gradients"}),
              Same(4, kModel / 2));
  }
}

TEST(WireBytesTest, PipelinesSendAnActivationAndAGradientForEachBoundary) {
  const int64_t message = kBatch * 4 * kSequence * kWidth;
  const auto sent = [&](const char* schedule) {
    return SentBytes(2, {"mesh.pipeline=2", absl::StrCat("pipeline_schedule.name=", schedule)},
                     "pipeline", {"activations", "activation gradients"});
  };
  // Two stages: down and back. Four going round the ranks: two boundaries one way, one the other.
  // Four placed as a V: the middle boundary is inside rank 1.
  EXPECT_EQ(sent("1f1b"), (std::vector<int64_t>{message, message}));
  EXPECT_EQ(sent("gpipe"), (std::vector<int64_t>{message, message}));
  EXPECT_EQ(sent("zb_h1"), (std::vector<int64_t>{message, message}));
  EXPECT_EQ(sent("interleaved"), (std::vector<int64_t>{3 * message, 3 * message}));
  EXPECT_EQ(sent("zb_v"), (std::vector<int64_t>{2 * message, 2 * message}));
}

// What a whole run of two replicas sends between them, by purpose.
std::map<std::string, int64_t> RunBytes(const std::string& exchanges, int64_t num_steps) {
  const RunConfig config =
      testing::ResolvedConfig(absl::StrCat(kConfig, exchanges), 2,
                              {"mesh.replica=2", absl::StrCat("num_steps=", num_steps),
                               "lr_schedule.name=linear", "lr_schedule.warmup_steps=0"});
  std::map<std::string, int64_t> sent;
  testing::OnTrainers(config, 2, [&](const testing::TrainerRank& rank) -> Status {
    while (rank.trainer.step() < num_steps) RETURN_IF_ERROR(rank.trainer.Step().status());
    if (rank.world.rank() != 0) return absl::OkStatus();
    for (const auto& [key, bytes] : rank.tensor_world.journal().SentBytes()) {
      if (key.first == "replica") sent[key.second] += bytes;
    }
    return absl::OkStatus();
  });
  return sent;
}

// Rounds send nothing between their ends but a mean of parameters and three numbers of the losses.
TEST(WireBytesTest, QsrSendsParametersWhenARoundEnds) {
  // H = max(2, floor((alpha / lr)^2)) of a learning rate that falls from alpha to a tenth of it in
  // 12 steps: 1, 0.85, 0.7, 0.55 and 0.325 of it make rounds of 2, 2, 2, 3 and 9, cut to the 3
  // left.
  const std::map<std::string, int64_t> expected = {{"parameters", 5 * kModel}, {"loss", 5 * 32}};
  EXPECT_EQ(RunBytes(R"(exchanges {
              point: "parameters" rule { name: "qsr" alpha: 0.001 h_base: 2 }
            })",
                     12),
            expected);
}

// A byte for each parameter and a scale for each block.
TEST(WireBytesTest, DiLoCoWithInt8) {
  const int64_t block = 512;
  const auto encoded = [&](int64_t elements) {
    return elements + 4 * ((elements + block - 1) / block);
  };
  const int64_t layer =
      4 * encoded(kWidth * kWidth) + 3 * encoded(kWidth * kMlp) + 2 * encoded(kWidth);
  const int64_t model = 2 * encoded(kVocabulary * kWidth) + kLayers * layer + encoded(kWidth);
  const std::map<std::string, int64_t> expected = {{"difference", 3 * model}, {"loss", 3 * 32}};
  EXPECT_EQ(RunBytes(R"(exchanges {
              point: "difference" rule { name: "every" period: 4 } codec { name: "int8" }
              memory: "error_feedback" mixer { name: "all_gather" } outer { name: "sgd" }
            })",
                     10),
            expected);
}

}  // namespace
}  // namespace trireme
