// A trained softmax model becomes one of linear attention: its weights, feature maps learned by
// attention transfer, adapters. Each stage starts from the checkpoint of the one before, on another
// layout.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/run_state.h"
#include "tests/launch/trainers.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

constexpr char kSoftmax[] = "S { name: 'softmax' heads: 2 }";
constexpr char kTransfer[] = "S { name: 'linearized' heads: 2 transfer: true }";
constexpr char kLinear[] = "S { name: 'linearized' heads: 2 }";
constexpr char kOnlyMaps[] = "groups { pattern: '*_map' } groups { pattern: '*' frozen: true }";
constexpr char kOnlyAdapters[] =
    "lora { pattern: '*.mixer.w*' rank: 8 } groups { pattern: '*.lora_*' } "
    "groups { pattern: '*' frozen: true }";

class LinearizeTest : public ::testing::Test {
 protected:
  struct Stage {
    std::string attention, trained;
    int num_steps;
    std::vector<std::string> layout;
  };

  // Trains from the weights in folder `from`, leaves its own in folder `to`; returns the loss of
  // evaluation.
  double Train(const Stage& stage, const std::string& from, const std::string& to) {
    constexpr char kRest[] = R"(
data {
  dataset { name: "mqar" num_pairs: 4 vocabulary_size: 24 num_validation_samples: 100 }
  sequence_length: 24
}
batch { global_batch_size: 32 }
num_steps: 600
optimizer { name: "adamw" beta2: 0.95 }
learning_rate: 0.01
lr_schedule { name: "constant" warmup_steps: 20 }
)";
    const std::string text =
        absl::StrCat("model { name: 'transformer' width: 32 num_layers: 2 mlp_width: 32 ",
                     stage.attention, "}", kRest, stage.trained);
    const int num_ranks = stage.layout.empty() ? 1 : 2;
    const RunConfig config = testing::ResolvedConfig(text, num_ranks, stage.layout);
    double loss = 0;
    testing::OnTrainers(config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
      if (!from.empty()) {
        ASSIGN_OR_RETURN(const std::string checkpoint, FindLatest(directory_ / from));
        ASSIGN_OR_RETURN(const WarmStart start, LoadParameters(checkpoint, rank.trainer));
        EXPECT_THAT(start.unused, ::testing::IsEmpty());
        if (rank.world.rank() == 0) drawn_ = start.drawn;
      }
      for (int step = 0; step < stage.num_steps; ++step) {
        RETURN_IF_ERROR(rank.trainer.Step().status());
      }
      ASSIGN_OR_RETURN(const EvaluationReport report, rank.trainer.Evaluate(0));
      if (rank.world.rank() == 0) loss = report.mean_loss();
      return SaveCheckpoint(
          MakeCheckpointGroup(rank.world), directory_ / to, TensorsToWrite(rank.trainer),
          MakeCheckpointInfo(rank.trainer, config, rank.dataset.fingerprint()), 1);
    });
    return loss;
  }

  const testing::TemporaryDirectory directory_;
  std::vector<std::string> drawn_;
};

TEST_F(LinearizeTest, EachStageIsNearerToTheTeacherThanTheOneBefore) {
  const double teacher = Train({kSoftmax, "", 250, {}}, "", "teacher");
  EXPECT_LT(teacher, 0.7 * std::log(24));
  const double converted = Train({kLinear, "", 0, {}}, "teacher", "converted");
  EXPECT_THAT(drawn_,
              ::testing::UnorderedElementsAre("layers.0.mixer.q_map", "layers.0.mixer.k_map",
                                              "layers.1.mixer.q_map", "layers.1.mixer.k_map"));
  EXPECT_GT(converted, teacher + 0.1);
  const double transferred =
      Train({kTransfer, kOnlyMaps, 100, {"mesh.tensor=2"}}, "teacher", "transferred");
  EXPECT_LT(transferred - teacher, 0.5 * (converted - teacher));
  const double adapted =
      Train({kLinear, kOnlyAdapters, 60, {"mesh.sequence=2"}}, "transferred", "adapted");
  EXPECT_LT(adapted, transferred);
  EXPECT_THAT(drawn_, ::testing::Contains("layers.1.mixer.wo.lora_b"));
}

TEST_F(LinearizeTest, ACheckpointOfAnotherShapeIsRefused) {
  Train({kSoftmax, "", 0, {}}, "", "teacher");
  const RunConfig config = testing::ResolvedConfig(R"(
model { name: 'transformer' width: 16 num_layers: 2 mlp_width: 32 S { name: 'softmax' heads: 2 } }
data { dataset { name: "mqar" num_pairs: 4 vocabulary_size: 24 } sequence_length: 24 }
batch { global_batch_size: 2 }
num_steps: 1
learning_rate: 0.01
)",
                                                   1, {});
  testing::OnTrainers(config, 1, [&](const testing::TrainerRank& rank) -> Status {
    ASSIGN_OR_RETURN(const std::string checkpoint, FindLatest(directory_ / "teacher"));
    const Status status = LoadParameters(checkpoint, rank.trainer).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("embedding.weight"));
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
