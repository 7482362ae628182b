// What PlanRanks says of a step is what the journal counts when the step runs.
#include "launch/rank_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "tests/launch/trainers.h"

namespace trireme {
namespace {

constexpr char kRun[] = R"(
  run_dir: "unused"
  dtype: "bf16"
  data {
    dataset {
      name: "synthetic" vocabulary_size: 61 num_tokens: 9000 max_document_tokens: 30 validation_fraction: 0
    }
    sequence_length: 37
  }
  batch { global_batch_size: 12 micro_batch_size: 1 }
  num_steps: 2
  optimizer { name: "adamw" }
  lr_schedule { name: "constant" }
  learning_rate: 0.01
  bucket_bytes: 4000
)";

constexpr char kSoftmax[] = R"(
  model {
    name: "transformer" width: 24 num_layers: 4 mlp_width: 22 dropout: 0.1 layers: "S"
    S { name: "softmax" heads: 8 kv_heads: 2 head_width: 4 qk_norm: true }
  }
)";

// Every mixer.
constexpr char kHybrid[] = R"(
  model {
    name: "transformer" width: 24 num_layers: 13 mlp_width: 22 layers: "ABCDEFGHIJKLS"
    A { name: "linear" heads: 4 }
    B { name: "lightning" heads: 4 }
    C { name: "retention" heads: 4 }
    D { name: "gla" heads: 4 expand_k: 1 gate_rank: 3 }
    E { name: "hgrn2" expand_ratio: 6 }
    F { name: "mamba2" head_width: 12 state_width: 5 }
    G { name: "deltanet" heads: 4 conv_size: 3 }
    H { name: "gated_deltanet" heads: 4 key_heads: 2 head_width: 4 }
    I { name: "kda" heads: 4 head_width: 4 }
    J { name: "mom" heads: 4 head_width: 4 memories: 3 }
    L { name: "mom" heads: 4 head_width: 4 memories: 3 base: "linear" balance: 0 }
    K { name: "rwkv7" head_width: 6 }
    S { name: "softmax" heads: 4 }
  }
)";

using Bytes = std::map<std::pair<std::string, std::string>, int64_t>;

Bytes Difference(Bytes after, const Bytes& before) {
  for (const auto& [key, bytes] : before) after[key] -= bytes;
  for (auto it = after.begin(); it != after.end();) {
    it = it->second == 0 ? after.erase(it) : std::next(it);
  }
  return after;
}

RunConfig Resolved(int num_ranks, const std::string& assignments, const char* model = kSoftmax) {
  const std::vector<std::string> set = absl::StrSplit(assignments, ' ', absl::SkipEmpty());
  return testing::ResolvedConfig(absl::StrCat(kRun, model), num_ranks, set);
}

struct Layout {
  int num_ranks;
  std::string assignments;
  const char* model = kSoftmax;
};

void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.assignments; }

class RankPlanTest : public ::testing::TestWithParam<Layout> {};

TEST_P(RankPlanTest, PredictsTheJournalOfAStep) {
  const RunConfig config = Resolved(GetParam().num_ranks, GetParam().assignments, GetParam().model);
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  const auto dataset = MakeDataset(data.name, data.params, {config.data().sequence_length()});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const auto plans = PlanRanks(config, DataShapeOf(**dataset));
  ASSERT_TRUE(plans.ok()) << plans.status();
  ASSERT_EQ(static_cast<int>(plans->size()), GetParam().num_ranks);

  CommOptions options;
  options.journal_size = 1 << 16;
  const auto compare = [&](const testing::TrainerRank& rank) -> Status {
    RETURN_IF_ERROR(rank.trainer.Step().status());  // Checks declarations, which later ones do not.
    const Bytes before = rank.tensor_world.journal().SentBytes();
    const size_t records_before = rank.tensor_world.journal().Records().size();
    RETURN_IF_ERROR(rank.trainer.Step().status());

    const RankPlan& plan = (*plans)[rank.world.rank()];
    Bytes expected, calls, made;
    for (const auto& [key, entry] : plan.step.entries) {
      expected[key] = entry.sent_bytes;
      calls[key] = entry.calls;
    }
    EXPECT_EQ(Difference(rank.tensor_world.journal().SentBytes(), before), Difference(expected, {}))
        << "rank " << rank.world.rank();
    const std::vector<CallRecord> records = rank.tensor_world.journal().Records();
    for (size_t i = records_before; i < records.size(); ++i) {
      const bool alone = records[i].axis == "replica" && config.mesh().replica() == 1;
      if (records[i].verb != Verb::kRecv && !alone) ++made[{records[i].axis, records[i].purpose}];
    }
    EXPECT_EQ(made, calls) << "rank " << rank.world.rank();

    int64_t working = 0, owned = 0;
    for (const auto& parameter : rank.trainer.model().parameters().parameters()) {
      working += parameter->working.numel();
      owned += parameter->owned.numel();
    }
    EXPECT_EQ(plan.working_elements, working);
    EXPECT_EQ(plan.owned_elements, owned);
    return absl::OkStatus();
  };
  testing::OnTrainers(config, GetParam().num_ranks, compare, options);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, RankPlanTest,
    ::testing::Values(
        Layout{1, ""}, Layout{3, ""}, Layout{2, "mesh.tensor=2"}, Layout{4, "mesh.tensor=4"},
        Layout{4, "mesh.tensor=4 mesh.sharded_stream=true recompute=true model.tied_head=true"},
        Layout{3, "mesh.shard=3 batch.micro_batch_size=2"},
        Layout{3, "mesh.shard=3 mesh.zero_stage=2 model.tied_head=true"},
        Layout{3, "mesh.shard=3 mesh.zero_stage=3 model.tied_head=true recompute=true"},
        Layout{3, "mesh.pipeline=3 model.tied_head=true"},
        Layout{3, "mesh.pipeline=3 pipeline_schedule.name=zb_v model.tied_head=true"},
        Layout{4,
               "mesh.pipeline=2 mesh.shard=2 mesh.zero_stage=3 pipeline_schedule.name=dualpipe_v "
               "model.tied_head=true"},
        Layout{4,
               "mesh.pipeline=2 mesh.shard=2 mesh.zero_stage=2 pipeline_schedule.name=zb_v "
               "model.tied_head=true"},
        Layout{3, "mesh.sequence=3"},
        Layout{3, "mesh.sequence=3 kv_exchange.name=ring recompute=true"},
        Layout{4, "mesh.sequence=4 kv_exchange.name=ulysses"},
        Layout{4, "mesh.sequence=4 kv_exchange.name=ulysses_ring kv_exchange.ulysses_size=2"},
        Layout{8, "mesh.replica=2 mesh.pipeline=2 mesh.tensor=2 mesh.sharded_stream=true"},
        Layout{
            8,
            "mesh.shard=2 mesh.sequence=2 mesh.tensor=2 mesh.zero_stage=3 kv_exchange.name=ring"},
        // Two chunks of logits, though the second rank's part alone would fit into one.
        Layout{2,
               "mesh.tensor=2 model.vocab_size=8193 data.sequence_length=1000 "
               "batch.global_batch_size=1"},
        Layout{6,
               "mesh.pipeline=3 mesh.replica=2 pipeline_schedule.name=interleaved "
               "mesh.units_of_stage=1,1,1,1,1,1"},
        Layout{3, "mesh.sequence=3 scan.name=tree", kHybrid},
        Layout{4, "mesh.sequence=2 mesh.tensor=2 scan.name=pipelined kv_exchange.name=ulysses",
               kHybrid},
        Layout{4, "mesh.tensor=4 mesh.sharded_stream=true recompute=true", kHybrid}),
    [](const auto& info) { return absl::StrCat("Layout", info.index); });

struct Exchanging {
  const char* exchanges;
  int num_ranks;
  std::string assignments;
};

void PrintTo(const Exchanging& run, std::ostream* out) { *out << run.exchanges; }

class ExchangePlanTest : public ::testing::TestWithParam<Exchanging> {};

// A whole run, exchanges and all, against steps and exchanges that were planned.
TEST_P(ExchangePlanTest, PredictsTheJournalOfARun) {
  const Exchanging& run = GetParam();
  constexpr int64_t kSteps = 7;
  std::vector<std::string> set = absl::StrSplit(run.assignments, ' ', absl::SkipEmpty());
  set.push_back(absl::StrCat("num_steps=", kSteps));
  const RunConfig config =
      testing::ResolvedConfig(absl::StrCat(kRun, kSoftmax, run.exchanges), run.num_ranks, set);
  const auto plans = PlanRanks(config, {.vocab_size = 61});
  ASSERT_TRUE(plans.ok()) << plans.status();
  testing::OnTrainers(config, run.num_ranks, [&](const testing::TrainerRank& rank) -> Status {
    const Bytes before = rank.tensor_world.journal().SentBytes();
    for (int64_t step = 0; step < kSteps; ++step) {
      RETURN_IF_ERROR(rank.trainer.Step().status());
    }
    Bytes sent = Difference(rank.tensor_world.journal().SentBytes(), before);
    // Of the first step alone.
    std::erase_if(sent,
                  [](const auto& entry) { return entry.first.second == "declared gradients"; });
    const RankPlan& plan = (*plans)[rank.world.rank()];
    Bytes expected;
    for (const auto& [key, entry] : plan.step.entries) {
      expected[key] += kSteps * entry.sent_bytes;
    }
    EXPECT_FALSE(plan.exchanges.empty());
    for (const ExchangeTraffic& exchange : plan.exchanges) {
      for (const auto& [key, entry] : exchange.sent.entries) expected[key] += entry.sent_bytes;
    }
    EXPECT_EQ(sent, Difference(expected, {})) << "rank " << rank.world.rank();
    return absl::OkStatus();
  });
}

constexpr char kInt8Rounds[] = R"(exchanges {
  point: "difference" rule { name: "every" period: 3 } codec { name: "int8" block: 40 }
  memory: "error_feedback" mixer { name: "all_gather" } outer { name: "sgd" }
})";

INSTANTIATE_TEST_SUITE_P(
    Runs, ExchangePlanTest,
    ::testing::Values(
        Exchanging{kInt8Rounds, 2, "mesh.replica=2"},
        Exchanging{kInt8Rounds, 8, "mesh.replica=2 mesh.tensor=2 mesh.shard=2 mesh.zero_stage=3"},
        Exchanging{kInt8Rounds, 4, "mesh.replica=2 mesh.pipeline=2"},
        Exchanging{R"(exchanges {
                     point: "parameters" rule { name: "qsr" alpha: 0.02 h_base: 2 }
                   })",
                   4, "mesh.replica=2 mesh.tensor=2"},
        Exchanging{R"(exchanges {
                     point: "difference" rule { name: "every" period: 4 }
                     codec { name: "e3m0" block: 32 } memory: "error_feedback"
                     mixer { name: "scatter_gather" } outer { name: "sgd" } fragments: 2 delay: 1
                   })",
                   6, "mesh.replica=3 mesh.tensor=2"},
        Exchanging{R"(exchanges { point: "gradient" pattern: "*gain" weights: "equal" }
                      exchanges {
                        point: "gradient" codec { name: "powersgd" } memory: "error_feedback"
                        weights: "equal"
                      })",
                   4, "mesh.replica=2 mesh.tensor=2"},
        // A warm-up of data parallelism.
        Exchanging{R"(exchanges { point: "gradient" until_step: 3 }
                      exchanges {
                        point: "gradient" codec { name: "top_k" fraction: 0.1 } from_step: 3
                        memory: "error_feedback" mixer { name: "all_gather" }
                      })",
                   2, "mesh.replica=2"},
        // Of parameters that only the first stage has.
        Exchanging{R"(exchanges {
                     point: "parameters" pattern: "layers.0.*" rule { name: "every" period: 2 }
                   })",
                   4, "mesh.replica=2 mesh.pipeline=2"},
        Exchanging{R"(exchanges {
                     point: "parameters" rule { name: "every" period: 2 } mixer { name: "gossip" }
                   })",
                   3, "mesh.replica=3"},
        Exchanging{R"(exchanges {
                     point: "difference" rule { name: "every" period: 2 }
                     mixer { name: "subset" participants: 2 }
                   })",
                   3, "mesh.replica=3"}),
    [](const auto& info) { return absl::StrCat("Run", info.index); });

// What `auto` comes to depends on the sizes of states, and the trainer says the same.
TEST(RankPlanTest, SaysWhatTheScanComesTo) {
  const auto choice = [](const std::string& assignments, const char* model = kHybrid) {
    const auto plans = PlanRanks(Resolved(4, assignments, model), {.vocab_size = 61});
    EXPECT_TRUE(plans.ok()) << plans.status();
    return plans.ok() ? plans->front().scan_choice : "";
  };
  EXPECT_EQ(choice("mesh.sequence=4"), "scan auto: all_gather");
  EXPECT_THAT(choice("mesh.sequence=4 scan.latency_us=0.001"),
              ::testing::StartsWith("scan auto: pipelined in 7 blocks, pipelined in 6 blocks, "));
  EXPECT_EQ(choice("mesh.sequence=4 scan.name=ring"), "");
  EXPECT_EQ(choice("mesh.tensor=4"), "");
  EXPECT_EQ(choice("mesh.sequence=4", kSoftmax), "");

  const RunConfig config = Resolved(2, "mesh.sequence=2", kHybrid);
  const auto plans = PlanRanks(config, {.vocab_size = 61});
  ASSERT_TRUE(plans.ok()) << plans.status();
  EXPECT_NE(plans->front().scan_choice, "");
  testing::OnTrainers(config, 2, [&](const testing::TrainerRank& rank) -> Status {
    EXPECT_EQ(rank.trainer.ScanChoice(), plans->front().scan_choice);
    return absl::OkStatus();
  });
}

TEST(RankPlanTest, RefusesWhatTheTrainerRefuses) {
  RunConfig config = Resolved(8, "mesh.tensor=8");
  config.mutable_mesh()->set_units_of_stage("9");
  EXPECT_THAT(std::string(PlanRanks(config, {.vocab_size = 61}).status().message()),
              ::testing::HasSubstr("units"));
  config =
      Resolved(4, "mesh.sequence=4 kv_exchange.name=ulysses model.S.heads=2 model.S.head_width=4");
  EXPECT_THAT(std::string(PlanRanks(config, {.vocab_size = 61}).status().message()),
              ::testing::HasSubstr("cannot cut 2 heads"));
}

}  // namespace
}  // namespace trireme
