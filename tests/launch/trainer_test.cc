// N ranks equal one rank: losses, gradients and updated weights of the whole training step.
#include "launch/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "absl/strings/str_cat.h"

#include "tests/launch/trainers.h"

namespace trireme {
namespace {

constexpr char kTransformer[] = R"(
  run_dir: "unused"
  seed: 5
  dtype: "f64"
  model {
    name: "transformer" width: 16 num_layers: 2 mlp_width: 20 dropout: 0.1 layers: "S"
    S { name: "softmax" heads: 4 kv_heads: 2 qk_norm: true }
  }
  data {
    dataset {
      name: "synthetic" vocabulary_size: 29 num_tokens: 5000 max_document_tokens: 30
      validation_fraction: 0.1
    }
    sequence_length: 21
  }
  batch { global_batch_size: 24 }
  num_steps: 3
  optimizer { name: "adamw" }
  lr_schedule { name: "cosine" warmup_steps: 1 }
  learning_rate: 0.01
  clip_norm: 0.5
  bucket_bytes: 1000
)";

struct Trace {
  std::vector<double> losses, norms, gradients, weights;
  double validation_loss = 0;
};

// Six samples a step, which users may give to a number of ranks that divides it only: the trainer
// itself takes any.
RunConfig Resolved(int num_ranks, const std::vector<std::string>& assignments,
                   int64_t micro_batch_size = 0) {
  RunConfig config = testing::ResolvedConfig(kTransformer, num_ranks, assignments);
  config.mutable_batch()->set_global_batch_size(6);
  config.mutable_batch()->set_micro_batch_size(micro_batch_size);
  return config;
}

Trace TraceOf(int num_ranks, const std::vector<std::string>& assignments,
              int64_t micro_batch_size = 0) {
  const RunConfig config = Resolved(num_ranks, assignments, micro_batch_size);
  Trace trace;
  testing::OnTrainers(config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
    Trainer* const trainer = &rank.trainer;
    Trace mine;
    for (int64_t step = 0; step < config.num_steps(); ++step) {
      ASSIGN_OR_RETURN(const StepReport report, trainer->Step());
      mine.losses.push_back(report.loss);
      mine.norms.push_back(report.grad_norm);
    }
    mine.gradients = trainer->gradients().All().ToVector();
    for (const auto& parameter : trainer->model().parameters().parameters()) {
      for (const double value : parameter->working.ToVector()) mine.weights.push_back(value);
    }
    ASSIGN_OR_RETURN(const EvaluationReport evaluation, trainer->Evaluate(0));
    mine.validation_loss = evaluation.mean_loss();
    // Every rank has the same, to the bit.
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    if (!trace.losses.empty()) {
      EXPECT_EQ(mine.losses, trace.losses);
      EXPECT_EQ(mine.gradients, trace.gradients);
      EXPECT_EQ(mine.weights, trace.weights);
      EXPECT_EQ(mine.validation_loss, trace.validation_loss);
    }
    trace = mine;
    return absl::OkStatus();
  });
  return trace;
}

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                double tolerance, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance * largest) << what << " " << i;
  }
}

void ExpectEqualTraces(const Trace& actual, const Trace& expected, double tolerance) {
  ExpectNear(actual.losses, expected.losses, tolerance, "loss");
  ExpectNear(actual.norms, expected.norms, tolerance, "gradient norm");
  ExpectNear(actual.gradients, expected.gradients, tolerance, "gradient");
  ExpectNear(actual.weights, expected.weights, tolerance, "weight");
  ExpectNear({actual.validation_loss}, {expected.validation_loss}, tolerance, "validation loss");
}

// Six samples over 1 to 8 ranks: equal shares, ragged shares and ranks with none; documents of any
// length; dropout; micro-batches of one and two samples.
TEST(TrainerTest, RanksAndMicroBatchesEqualOneRank) {
  const Trace one = TraceOf(1, {});
  EXPECT_NE(one.losses[0], one.losses[1]);
  for (const int num_ranks : {2, 3, 4, 8}) {
    SCOPED_TRACE(num_ranks);
    ExpectEqualTraces(TraceOf(num_ranks, {}), one, 1e-10);
  }
  ExpectEqualTraces(TraceOf(1, {}, 1), one, 1e-10);
  ExpectEqualTraces(TraceOf(4, {"bucket_bytes=1000000"}, 1), one, 1e-10);
}

TEST(TrainerTest, RecomputationEqualsSaving) {
  ExpectEqualTraces(TraceOf(2, {"recompute=true"}), TraceOf(2, {}), 1e-14);
}

TEST(TrainerTest, TiedHeadOnFourRanks) {
  const std::vector<std::string> tied = {"model.tied_head=true"};
  ExpectEqualTraces(TraceOf(4, tied), TraceOf(1, tied), 1e-10);
}

double Distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

// In f32, N ranks are at most twice as far from the truth as one rank.
TEST(TrainerTest, SinglePrecisionOnFourRanksIsAsNearToTheTruthAsOnOne) {
  const Trace truth = TraceOf(1, {});
  const Trace one = TraceOf(1, {"dtype=f32"}), four = TraceOf(4, {"dtype=f32"});
  EXPECT_GT(Distance(one.gradients, truth.gradients), 0);
  EXPECT_LE(Distance(four.gradients, truth.gradients),
            2 * Distance(one.gradients, truth.gradients));
  EXPECT_LE(Distance(four.losses, truth.losses), 2 * Distance(one.losses, truth.losses) + 1e-7);
}

TEST(TrainerTest, Bf16FollowsTheTruth) {
  const Trace truth = TraceOf(1, {}), bf16 = TraceOf(3, {"dtype=bf16"});
  for (size_t i = 0; i < truth.losses.size(); ++i) {
    EXPECT_NEAR(bf16.losses[i], truth.losses[i], 0.02 * truth.losses[i]);
  }
}

// The validation samples divide by nothing: some ranks have fewer micro-batches than others, or
// none.
TEST(TrainerTest, EvaluationUnderEveryAxisEqualsOneRank) {
  const auto loss_of = [](int num_ranks, const std::vector<std::string>& assignments) {
    const RunConfig config = Resolved(num_ranks, assignments, /*micro_batch_size=*/1);
    std::vector<double> losses(num_ranks);
    testing::OnTrainers(config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
      for (const int64_t num_batches : {1, 0}) {
        ASSIGN_OR_RETURN(const EvaluationReport report, rank.trainer.Evaluate(num_batches));
        losses[rank.world.rank()] += report.mean_loss();
      }
      return absl::OkStatus();
    });
    for (const double loss : losses) EXPECT_EQ(loss, losses[0]);
    return losses[0];
  };
  const double one = loss_of(1, {});
  const std::vector<std::vector<std::string>> layouts = {
      {"mesh.shard=4", "mesh.zero_stage=3"},
      {"mesh.shard=4", "mesh.zero_stage=1"},
      {"mesh.tensor=2", "mesh.pipeline=2", "mesh.sharded_stream=true"},
      {"mesh.pipeline=2", "mesh.shard=2", "mesh.zero_stage=3", "pipeline_schedule.name=zb_v"},
      {"mesh.sequence=2", "mesh.replica=2", "mesh.zero_stage=3", "kv_exchange.name=ulysses"},
  };
  for (const auto& layout : layouts) {
    EXPECT_NEAR(loss_of(4, layout), one, 1e-10 * one) << layout[0] << " " << layout[1];
  }
}

TEST(TrainerTest, ALossThatIsNotFiniteNamesItsStepAndLeavesTheParameters) {
  const RunConfig config = Resolved(1, {"learning_rate=1e300", "clip_norm=0", "num_steps=9"});
  testing::OnTrainers(config, 1, [&](const testing::TrainerRank& rank) -> Status {
    RETURN_IF_ERROR(rank.trainer.Step().status());
    const Tensor& owned = rank.trainer.model().parameters().parameters()[0]->owned;
    const std::vector<double> before = owned.ToVector();
    const Status status = rank.trainer.Step().status();
    EXPECT_THAT(status.message(), ::testing::HasSubstr("step 2: the loss is"));
    EXPECT_EQ(owned.ToVector(), before);
    EXPECT_EQ(rank.trainer.step(), 1);
    return absl::OkStatus();
  });
}

// A weight turns into NaN on one rank; every rank says where it was seen first.
TEST(TrainerTest, ALossThatIsNotFiniteNamesTheFirstLayerAndRank) {
  const std::vector<std::vector<std::string>> layouts = {
      {"mesh.replica=4"},
      {"mesh.pipeline=2", "mesh.tensor=2"},
      {"mesh.sequence=2", "mesh.shard=2", "mesh.zero_stage=1"},
  };
  for (const auto& layout : layouts) {
    SCOPED_TRACE(layout[0]);
    const RunConfig config = Resolved(4, layout);
    testing::OnTrainers(config, 4, [&](const testing::TrainerRank& rank) -> Status {
      if (rank.world.rank() == 3) {
        Parameter* down = rank.trainer.model().parameters().Find("layers.1.mlp.down");
        down->working.Fill(std::nan(""));
      }
      const std::string message(rank.trainer.Step().status().message());
      EXPECT_THAT(message, ::testing::HasSubstr("first not finite: the output of layers.1"));
      // Ranks 2 and 3 are one tensor axis: what they add up is nobody's alone.
      const bool shared = layout.size() == 2 && layout[1] == "mesh.tensor=2";
      EXPECT_THAT(message, ::testing::HasSubstr(shared ? ", on rank 2." : ", on rank 3."));
      return absl::OkStatus();
    });
  }
}

}  // namespace
}  // namespace trireme
