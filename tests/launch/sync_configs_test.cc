// The methods of examples/configs/sync, each as a run of four replicas: what exchanges promise of
// replicas, of one replica, and of a run that stops in the middle of a round.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "absl/strings/str_cat.h"

#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/run_state.h"
#include "tests/launch/trainers.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

constexpr int kReplicas = 4;

std::vector<std::string> Methods() {
  std::vector<std::string> names;
  const std::filesystem::path folder = TRIREME_SOURCE_DIR "/examples/configs/sync";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// What a rank ends a run with.
struct End {
  std::vector<double> losses, weights;
  bool agree = false;
};

// Makes steps `first` to `last`, from a checkpoint of `directory` when `first` is not 0; saves
// there after the last. Of every rank.
std::vector<End> Steps(const std::string& text, int num_ranks,
                       const std::vector<std::string>& assignments, int64_t first, int64_t last,
                       const std::string& directory = "") {
  const RunConfig config = testing::ResolvedConfig(text, num_ranks, assignments);
  std::vector<End> ends(num_ranks);
  testing::OnTrainers(config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
    End& end = ends[rank.world.rank()];
    if (first > 0) {
      ASSIGN_OR_RETURN(const std::string checkpoint, FindLatest(directory));
      RETURN_IF_ERROR(LoadState(checkpoint, rank.dataset.fingerprint(), rank.trainer).status());
      EXPECT_EQ(rank.trainer.step(), first);
    }
    for (int64_t step = first; step < last; ++step) {
      ASSIGN_OR_RETURN(const StepReport report, rank.trainer.Step());
      end.losses.push_back(report.loss);
    }
    end.agree = rank.trainer.exchanges().in_agreement();
    for (const auto& parameter : rank.trainer.model().parameters().parameters()) {
      for (const double value : parameter->owned.ToVector()) end.weights.push_back(value);
    }
    if (directory.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(rank.trainer.exchanges().Settle());
    return SaveCheckpoint(MakeCheckpointGroup(rank.world), directory, TensorsToWrite(rank.trainer),
                          MakeCheckpointInfo(rank.trainer, config, rank.dataset.fingerprint()), 1);
  });
  return ends;
}

class SyncConfigsTest : public ::testing::TestWithParam<std::string> {
 protected:
  const std::string text_ = testing::ExampleConfig(absl::StrCat("sync/", GetParam()));
  const int64_t num_steps_ = testing::ResolvedConfig(text_, kReplicas, {}).num_steps();
};

INSTANTIATE_TEST_SUITE_P(Methods, SyncConfigsTest, ::testing::ValuesIn(Methods()),
                         [](const auto& info) { return info.param; });

// Replicas that say they agree have the same bits; at the end all do.
TEST_P(SyncConfigsTest, ReplicasAgreeWhenTheySaySo) {
  for (const int64_t steps : {int64_t{12}, num_steps_}) {
    const std::vector<End> ends = Steps(text_, kReplicas, {}, 0, steps);
    // Those that gossip may meet in pairs.
    const bool all_equal = std::all_of(
        ends.begin(), ends.end(), [&](const End& end) { return end.weights == ends[0].weights; });
    for (const End& end : ends) EXPECT_EQ(end.agree, all_equal) << steps;
    if (steps == num_steps_) {
      EXPECT_TRUE(ends[0].agree);
    }
  }
}

// Personal models are scored beside the common one.
TEST_P(SyncConfigsTest, LossFalls) {
  const RunConfig config = testing::ResolvedConfig(text_, kReplicas, {});
  testing::OnTrainers(config, kReplicas, [&](const testing::TrainerRank& rank) -> Status {
    ASSIGN_OR_RETURN(const EvaluationReport before, rank.trainer.Evaluate(0));
    for (int64_t step = 0; step < num_steps_; ++step) {
      RETURN_IF_ERROR(rank.trainer.Step().status());
    }
    ASSIGN_OR_RETURN(const EvaluationReport after, rank.trainer.Evaluate(0));
    EXPECT_LT(after.mean_loss(), before.mean_loss() - 0.3);
    ASSIGN_OR_RETURN(const auto personal, rank.trainer.EvaluatePersonal(0));
    EXPECT_EQ(personal.has_value(), GetParam() == "pfedme");
    const double own = personal.has_value() ? personal->mean_loss() : 0;
    EXPECT_LT(own, before.mean_loss() - 0.3);
    return absl::OkStatus();
  });
}

// A run that is saved anywhere in a round and goes on is the run that was not; replicas are alone,
// or two ranks that cut the blocks of codecs.
TEST_P(SyncConfigsTest, ResumesToTheBit) {
  const int64_t last = 30;
  for (const std::vector<std::string>& layout : {std::vector<std::string>{}, {"mesh.tensor=2"}}) {
    const int num_ranks = layout.empty() ? kReplicas : 2 * kReplicas;
    const std::vector<End> straight = Steps(text_, num_ranks, layout, 0, last);
    // 12 is the end of most rounds, 13 has what streaming sent under way, 26 is anywhere.
    for (const int64_t stop : {12, 13, 26}) {
      const testing::TemporaryDirectory directory;
      Steps(text_, num_ranks, layout, 0, stop, directory.path());
      const std::vector<End> resumed =
          Steps(text_, num_ranks, layout, stop, last, directory.path());
      for (int rank = 0; rank < num_ranks; ++rank) {
        EXPECT_TRUE(resumed[rank].weights == straight[rank].weights)
            << "rank " << rank << " after step " << stop;
        EXPECT_EQ(resumed[rank].losses.back(), straight[rank].losses.back());
      }
    }
  }
}

constexpr char kModel[] = R"(
  model {
    name: "transformer" width: 16 num_layers: 2 mlp_width: 20
    S { name: "softmax" heads: 4 kv_heads: 2 }
  }
  data {
    dataset { name: "synthetic" vocabulary_size: 29 num_tokens: 5000 max_document_tokens: 30 }
    sequence_length: 21
  }
  batch { global_batch_size: 8 }
  num_steps: 20
  learning_rate: 0.1
  lr_schedule { name: "cosine" warmup_steps: 4 }
)";

// One replica has nobody to exchange with: any rule is plain training, bit for bit.
TEST(ExchangesTest, OneReplicaTrainsAsIfThereWereNoRule) {
  const std::string rules[] = {
      R"(name: "every" period: 3)",
      R"(name: "qsr" alpha: 0.1 h_base: 2)",
      R"(name: "linear" alpha: 0.2 h_base: 2)",
      R"(name: "cubic" alpha: 0.1 h_base: 1)",
      R"(name: "post_local" switch_step: 5 period: 4)",
      R"(name: "swap" switch_step: 7)",
      R"(name: "stagewise" period: 2 boundaries: "8,14")",
      R"(name: "adaptive" period: 4 block_steps: 6)",
      R"(name: "list" steps: "3,4,11")",
  };
  const std::string text = absl::StrCat(kModel, R"(dtype: "f32")");
  const End plain = Steps(text, 1, {}, 0, 20)[0];
  for (const std::string& rule : rules) {
    for (const char* point : {"parameters", "difference"}) {
      const std::string row =
          absl::StrCat("exchanges { point: \"", point, "\" rule { ", rule, " } }");
      const End end = Steps(absl::StrCat(text, row), 1, {}, 0, 20)[0];
      EXPECT_TRUE(end.weights == plain.weights) << row;
      EXPECT_EQ(end.losses, plain.losses) << row;
    }
  }
}

// Without momentum, and with replicas that count as many labels, averaging parameters after every
// step is data parallelism.
TEST(ExchangesTest, RoundsOfOneStepOfSgdAreDataParallelism) {
  const std::string text =
      absl::StrCat(kModel, R"(dtype: "f64" clip_norm: 0 optimizer { name: "sgd" momentum: 0 })");
  const End expected = Steps(text, kReplicas, {}, 0, 20)[0];
  for (const std::string row :
       {R"(exchanges { point: "parameters" weights: "tokens" })",
        R"(exchanges { point: "difference" weights: "tokens" })",
        R"(exchanges { point: "gradient" mixer { name: "all_gather" } })",
        R"(exchanges { point: "gradient" codec { name: "powersgd" rank: 64 } pattern: "*.w*" }
           exchanges { point: "gradient" })"}) {
    const std::vector<End> ends = Steps(absl::StrCat(text, row), kReplicas, {}, 0, 20);
    ASSERT_EQ(ends[0].weights.size(), expected.weights.size());
    for (size_t i = 0; i < expected.weights.size(); ++i) {
      ASSERT_NEAR(ends[1].weights[i], expected.weights[i], 1e-10) << row << " " << i;
    }
  }
}

// Samples of two tokens, from documents of one or two: at most steps some replica has no label.
TEST(ExchangesTest, AReplicaWithoutLabelsTakesPart) {
  const std::vector<std::string> short_documents = {
      "data.sequence_length=2", "data.dataset.max_document_tokens=2", "batch.global_batch_size=4"};
  const std::string text =
      absl::StrCat(kModel, R"(dtype: "f64" clip_norm: 0 optimizer { name: "sgd" momentum: 0 })");
  const End expected = Steps(text, kReplicas, short_documents, 0, 20)[0];
  for (const std::string row : {R"(exchanges { point: "gradient" mixer { name: "all_gather" } })",
                                R"(exchanges { point: "parameters" weights: "tokens" })"}) {
    const End end = Steps(absl::StrCat(text, row), kReplicas, short_documents, 0, 20)[0];
    ASSERT_EQ(end.weights.size(), expected.weights.size());
    for (size_t i = 0; i < expected.weights.size(); ++i) {
      ASSERT_NEAR(end.weights[i], expected.weights[i], 1e-10) << row << " " << i;
    }
  }
}

TEST(ExchangesTest, RoundsOfSeveralStepsAreNot) {
  const std::string text =
      absl::StrCat(kModel, R"(dtype: "f64" optimizer { name: "sgd" momentum: 0 })");
  const End data_parallel = Steps(text, kReplicas, {}, 0, 20)[0];
  const std::string row = R"(exchanges { point: "parameters" rule { name: "every" period: 2 } })";
  const End rounds = Steps(absl::StrCat(text, row), kReplicas, {}, 0, 20)[0];
  double largest = 0;
  for (size_t i = 0; i < rounds.weights.size(); ++i) {
    largest = std::max(largest, std::abs(rounds.weights[i] - data_parallel.weights[i]));
  }
  EXPECT_GT(largest, 1e-4);
}

}  // namespace
}  // namespace trireme
