// Local steps and 1-bit Adam against plain training, which serves for an oracle: it makes the same
// gradients, one at a time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

#include "launch/catalogue.h"
#include "tests/launch/trainers.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using Vector = std::vector<double>;

constexpr char kModel[] = R"(
  model {
    name: "transformer" width: 16 num_layers: 2 mlp_width: 20
    S { name: "softmax" heads: 4 kv_heads: 2 }
  }
  data {
    dataset { name: "synthetic" vocabulary_size: 29 num_tokens: 5000 max_document_tokens: 30 }
    sequence_length: 21
  }
  num_steps: 20 clip_norm: 0 dtype: "f64"
)";
constexpr char kSgd[] = "batch { global_batch_size: 8 } optimizer { name: 'sgd' momentum: 0 } ";

Vector Owned(const Trainer& trainer) {
  Vector values;
  for (const auto& parameter : const_cast<Trainer&>(trainer).model().parameters().parameters()) {
    for (const double value : parameter->owned.ToVector()) values.push_back(value);
  }
  return values;
}

Vector Personal(Trainer& trainer) {
  Vector values;
  for (const Tensor& tensor : trainer.local_step().personal()) {
    for (const double value : tensor.ToVector()) values.push_back(value);
  }
  return values;
}

// The parameters of a trainer on one rank, and the samples of step `step` next.
Status Place(Trainer& trainer, const Vector& values, int64_t step) {
  auto begin = values.begin();
  for (const auto& parameter : trainer.model().parameters().parameters()) {
    const Tensor& owned = parameter->owned;
    owned.CopyFrom(Tensor::FromVector(owned.device(), owned.shape(), {begin, begin + owned.numel()},
                                      owned.dtype()));
    begin += owned.numel();
  }
  return trainer.Resume(step);
}

// a + factor * (b - c)
Vector Moved(Vector a, double factor, const Vector& b, const Vector& c) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += factor * (b[i] - c[i]);
  return a;
}

void ExpectNear(const Vector& actual, const Vector& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], 1e-12) << what << " " << i;
  }
}

// Three updates of pFedMe's client, with the personal model that goes on.
TEST(LocalStepTest, ProximalIsTheMoreauStep) {
  const double eta = 0.04, rate = 0.1, lambda = 3;
  const RunConfig plain =
      testing::ResolvedConfig(absl::StrCat(kModel, kSgd), 1, {"learning_rate=0.1"});
  std::vector<Vector> w, theta;
  double personal_loss = 0;
  testing::OnTrainers(plain, 1, [&](const testing::TrainerRank& rank) -> Status {
    Vector shared = Owned(rank.trainer), own = shared;
    for (int64_t step = 0; step < 3; ++step) {
      for (int k = 0; k < 4; ++k) {
        RETURN_IF_ERROR(Place(rank.trainer, own, step));
        RETURN_IF_ERROR(rank.trainer.Step().status());
        own = Moved(Owned(rank.trainer), -rate * lambda, own, shared);
      }
      shared = Moved(shared, -eta * lambda, shared, own);
      w.push_back(shared);
      theta.push_back(own);
    }
    RETURN_IF_ERROR(Place(rank.trainer, own, 3));
    ASSIGN_OR_RETURN(const EvaluationReport report, rank.trainer.Evaluate(0));
    personal_loss = report.mean_loss();
    return absl::OkStatus();
  });
  const std::string text = absl::StrCat(
      kModel, kSgd, "learning_rate: 0.04 local_step { name: 'proximal' lambda: 3 inner_steps: 4 ",
      "inner_learning_rate: 0.1 }");
  double loss = 0;
  testing::OnTrainers(testing::ResolvedConfig(text, 1, {"batch.micro_batch_size=2"}), 1,
                      [&](const testing::TrainerRank& rank) -> Status {
                        for (int64_t step = 0; step < 3; ++step) {
                          RETURN_IF_ERROR(rank.trainer.Step().status());
                          ExpectNear(Owned(rank.trainer), w[step], "w");
                          ExpectNear(Personal(rank.trainer), theta[step], "theta");
                        }
                        // Each model is scored as what it is, and scoring changes neither.
                        ASSIGN_OR_RETURN(const EvaluationReport before, rank.trainer.Evaluate(0));
                        ASSIGN_OR_RETURN(const auto personal, rank.trainer.EvaluatePersonal(0));
                        ASSIGN_OR_RETURN(const EvaluationReport after, rank.trainer.Evaluate(0));
                        EXPECT_NEAR(personal->mean_loss(), personal_loss, 1e-12);
                        EXPECT_GT(std::abs(before.mean_loss() - personal_loss), 1e-4);
                        EXPECT_EQ(before.mean_loss(), after.mean_loss());
                        ExpectNear(Personal(rank.trainer), theta[2], "theta");
                        loss = after.mean_loss();
                        return absl::OkStatus();
                      });
  // The same when the replica is four ranks.
  for (const std::vector<std::string>& layout :
       {std::vector<std::string>{"mesh.shard=2", "mesh.tensor=2"},
        {"mesh.shard=4", "mesh.zero_stage=3"},
        {"mesh.pipeline=2", "mesh.sequence=2"}}) {
    SCOPED_TRACE(layout[0]);
    testing::OnTrainers(testing::ResolvedConfig(text, 4, layout), 4,
                        [&](const testing::TrainerRank& rank) -> Status {
                          for (int64_t step = 0; step < 3; ++step)
                            RETURN_IF_ERROR(rank.trainer.Step().status());
                          ASSIGN_OR_RETURN(const auto personal, rank.trainer.EvaluatePersonal(0));
                          ASSIGN_OR_RETURN(const EvaluationReport report, rank.trainer.Evaluate(0));
                          EXPECT_NEAR(personal->mean_loss(), personal_loss, 1e-11);
                          EXPECT_NEAR(report.mean_loss(), loss, 1e-11);
                          return absl::OkStatus();
                        });
  }
}

// The oracle has half the batch: its steps 2 s and 2 s + 1 see the halves of step s.
TEST(LocalStepTest, MamlTakesTheGradientWhereAdaptingLeads) {
  const double eta = 0.3, alpha = 0.2;
  const RunConfig halves = testing::ResolvedConfig(
      absl::StrCat(kModel, kSgd), 1, {"learning_rate=0.2", "batch.global_batch_size=4"});
  std::vector<Vector> w;
  testing::OnTrainers(halves, 1, [&](const testing::TrainerRank& rank) -> Status {
    w.push_back(Owned(rank.trainer));
    for (int64_t step = 0; step < 3; ++step) {
      RETURN_IF_ERROR(Place(rank.trainer, w.back(), 2 * step));
      RETURN_IF_ERROR(rank.trainer.Step().status());
      const Vector adapted = Owned(rank.trainer);
      RETURN_IF_ERROR(rank.trainer.Step().status());
      w.push_back(Moved(w.back(), eta / alpha, Owned(rank.trainer), adapted));
    }
    return absl::OkStatus();
  });
  const std::string text = absl::StrCat(kModel, kSgd, "learning_rate: 0.3 ",
                                        "local_step { name: 'maml' inner_learning_rate: 0.2 }");
  double loss = 0;
  testing::OnTrainers(testing::ResolvedConfig(text, 1, {}), 1,
                      [&](const testing::TrainerRank& rank) -> Status {
                        for (int64_t step = 0; step < 3; ++step) {
                          RETURN_IF_ERROR(rank.trainer.Step().status());
                          ExpectNear(Owned(rank.trainer), w[step + 1], "w");
                        }
                        EXPECT_TRUE(rank.trainer.local_step().personal().empty());
                        ASSIGN_OR_RETURN(const EvaluationReport report, rank.trainer.Evaluate(0));
                        loss = report.mean_loss();
                        return absl::OkStatus();
                      });
  for (const std::vector<std::string>& layout :
       {std::vector<std::string>{"mesh.shard=2", "mesh.tensor=2"},
        {"mesh.shard=4", "mesh.zero_stage=3"},
        {"mesh.pipeline=2", "mesh.sequence=2"}}) {
    SCOPED_TRACE(layout[0]);
    testing::OnTrainers(testing::ResolvedConfig(text, 4, layout), 4,
                        [&](const testing::TrainerRank& rank) -> Status {
                          for (int64_t step = 0; step < 3; ++step)
                            RETURN_IF_ERROR(rank.trainer.Step().status());
                          ASSIGN_OR_RETURN(const EvaluationReport report, rank.trainer.Evaluate(0));
                          EXPECT_NEAR(report.mean_loss(), loss, 1e-11);
                          return absl::OkStatus();
                        });
  }
}

// Without a codec, moments that replicas average are the moments of the average.
TEST(LocalStepTest, OneBitAdamOfIdentityIsThatOfOneReplica) {
  const std::string text = absl::StrCat(kModel, R"(
    batch { global_batch_size: 8 } learning_rate: 0.01
    optimizer { name: "onebit_adam" beta1: 0.8 epsilon: 1e-3 freeze_step: 3 }
    exchanges { point: "gradient" until_step: 3 }
    exchanges { point: "momentum" state: "exp_avg" momentum: 0.8 from_step: 3 })");
  Vector one;
  for (const int replicas : {1, 4}) {
    testing::OnTrainers(testing::ResolvedConfig(text, replicas, {}), replicas,
                        [&](const testing::TrainerRank& rank) -> Status {
                          for (int step = 0; step < 7; ++step)
                            RETURN_IF_ERROR(rank.trainer.Step().status());
                          if (replicas == 1) one = Owned(rank.trainer);
                          ExpectNear(Owned(rank.trainer), one, "parameter");
                          return absl::OkStatus();
                        });
  }
}

std::string ErrorOf(const std::string& text, int num_ranks) {
  auto loaded = ParseConfig("c", text, {});
  if (!loaded.ok()) return loaded.status().ToString();
  return std::string(ResolveConfig(num_ranks, Catalogue(), &*loaded).message());
}

TEST(LocalStepTest, ConfigsThatMakeNoSenseAreRefusedByName) {
  const std::string base = absl::StrCat(kModel, "learning_rate: 0.1 ");
  const std::string sgd = absl::StrCat(base, kSgd);
  EXPECT_THAT(ErrorOf(sgd + "local_step { name: 'proximate' }", 1), HasSubstr("proximal"));
  EXPECT_THAT(ErrorOf(sgd + "local_step { name: 'proximal' }", 4),
              HasSubstr("local_step: proximal makes its gradient after backward"));
  EXPECT_EQ(ErrorOf(sgd + "local_step { name: 'proximal' }", 1), "");
  EXPECT_EQ(ErrorOf(sgd + "local_step { name: 'proximal' } exchanges { point: 'parameters' }", 4),
            "");
  EXPECT_THAT(ErrorOf(sgd + "local_step { name: 'proximal' lambda: 0 }", 1),
              HasSubstr("proximal: lambda 0"));
  EXPECT_THAT(ErrorOf(sgd + "local_step { name: 'maml' }", 8),
              HasSubstr("8 is not divisible by 2 times replica=8"));
  EXPECT_EQ(ErrorOf(sgd + "local_step { name: 'maml' }", 4), "");
  const std::string adam = absl::StrCat(base, "batch { global_batch_size: 8 } optimizer { name: ");
  EXPECT_THAT(ErrorOf(adam + "'onebit_adam' freeze_step: 5 }", 4),
              HasSubstr("optimizer: onebit_adam takes its first moment from an exchange after "
                        "step 5, and there is none: exchanges { point: \"momentum\""));
  EXPECT_EQ(ErrorOf(adam + "'onebit_adam' freeze_step: 5 } exchanges { point: 'momentum' "
                           "state: 'exp_avg' from_step: 5 }",
                    4),
            "");
  EXPECT_THAT(ErrorOf(adam + "'onebit_adam' freeze_step: 5 } exchanges { point: 'momentum' "
                             "state: 'exp_avg' from_step: 4 }",
                      4),
              HasSubstr("after step 5"));
  EXPECT_THAT(ErrorOf(adam + "'adamw' } exchanges { point: 'momentum' state: 'exp_avg' }", 4),
              HasSubstr("adamw would average anew"));
}

}  // namespace
}  // namespace trireme
