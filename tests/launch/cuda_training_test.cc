// Whole runs on a GPU: as on the CPU, resumed to the bit, and under layouts equal to one rank on
// the CPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/device/kernel.h"
#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/rank_device.h"
#include "launch/run_state.h"
#include "launch/verify_layouts.h"
#include "parallel/comm/local.h"
#include "tests/launch/trainers.h"
#include "tests/testing/device.h"
#include "tests/testing/temporary_directory.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

constexpr char kTransformer[] = R"(
  run_dir: "unused"
  seed: 3
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
  batch { global_batch_size: 4 micro_batch_size: 1 }
  num_steps: 4
  optimizer { name: "adamw" }
  lr_schedule { name: "cosine" warmup_steps: 1 }
  learning_rate: 0.01
  bucket_bytes: 1000
)";

// The name that configs have for the device of the test.
std::string DeviceName() { return testing::DeviceLibrary().substr(std::string("trireme_").size()); }

// Losses of steps `first` to `last`, from and to checkpoints in `directory`.
std::vector<double> RunSteps(int num_ranks, const std::vector<std::string>& assignments, int first,
                             int last, const std::string& directory) {
  const RunConfig config = testing::ResolvedConfig(kTransformer, num_ranks, assignments);
  std::vector<double> losses;
  testing::OnTrainers(config, num_ranks, [&](const testing::TrainerRank& rank) -> Status {
    if (first > 0) {
      ASSIGN_OR_RETURN(const std::string checkpoint, FindLatest(directory));
      RETURN_IF_ERROR(LoadState(checkpoint, rank.dataset.fingerprint(), rank.trainer).status());
    }
    for (int step = first; step < last; ++step) {
      ASSIGN_OR_RETURN(const StepReport report, rank.trainer.Step());
      if (rank.world.rank() == 0) losses.push_back(report.loss);
    }
    return SaveCheckpoint(MakeCheckpointGroup(rank.world), directory, TensorsToWrite(rank.trainer),
                          MakeCheckpointInfo(rank.trainer, config, rank.dataset.fingerprint()), 1);
  });
  return losses;
}

TEST(CudaTrainingTest, AMissingKernelIsNamedBeforeAnythingIsAllocated) {
  class Lacking : public CpuDevice {
   public:
    explicit Lacking(const KernelTable& table) : CpuDevice({.num_threads = 1}, table) {}
  };
  KernelTable table = MakeCpuDevice()->kernels();
  table.Norm = nullptr;
  table.Rotary = nullptr;
  Lacking device(table);
  const RunConfig config = testing::ResolvedConfig(kTransformer, 1, {});
  const ComponentConfig data = ToComponentConfig(config.data().dataset());
  const auto dataset = MakeDataset(data.name, data.params, {config.data().sequence_length()});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const auto world = MakeSelfCommunicator();
  PhaseTimer phases;
  const Status status = Trainer::Create(config, **dataset, *world, device, phases).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("has no kernel for Norm, Rotary"));
  EXPECT_EQ(device.stats().peak_total_bytes, 0);
}

TEST(CudaTrainingTest, ResumesToTheBit) {
  const std::vector<std::vector<std::string>> layouts = {
      {"dtype=bf16", "mesh.replica=1"},
      {"dtype=f32", "mesh.pipeline=2", "mesh.tensor=2", "mesh.replica=1"}};
  for (const auto& layout : layouts) {
    const int num_ranks = layout.size() > 2 ? 4 : 1;
    const testing::TemporaryDirectory straight, stopped;
    const std::vector<double> expected = RunSteps(num_ranks, layout, 0, 4, straight.path());
    std::vector<double> losses = RunSteps(num_ranks, layout, 0, 2, stopped.path());
    for (const double loss : RunSteps(num_ranks, layout, 2, 4, stopped.path())) {
      losses.push_back(loss);
    }
    EXPECT_EQ(losses, expected) << layout[0];
  }
}

TEST(CudaTrainingTest, LayoutsEqualOneRankOnTheCpu) {
  VerifyOptions options;
  options.num_ranks = 4;
  options.num_steps = 2;
  options.blame = false;
  options.device = DeviceName();
  options.layouts = {RunLayout{{{"mesh.replica", "1"},
                                {"mesh.pipeline", "2"},
                                {"mesh.tensor", "2"},
                                {"mesh.sharded_stream", "true"},
                                {"pipeline_schedule.name", "zb_h1"}}},
                     RunLayout{{{"mesh.replica", "1"},
                                {"mesh.shard", "2"},
                                {"mesh.sequence", "2"},
                                {"mesh.zero_stage", "3"},
                                {"kv_exchange.name", "ring"}}}};
  auto loaded = ParseConfig("test.textproto", kTransformer, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const auto verdicts = VerifyLayouts(loaded->config, options);
  ASSERT_TRUE(verdicts.ok()) << verdicts.status();
  ASSERT_EQ(verdicts->size(), 2u);
  for (const LayoutVerdict& verdict : *verdicts) {
    EXPECT_EQ(verdict.outcome, LayoutVerdict::Outcome::kEqual)
        << verdict.layout.ToString() << ": " << verdict.reason;
  }
}

TEST(CudaTrainingTest, RanksThatWouldShareAGpuAreRefusedTogether) {
  if (testing::OnCpu()) GTEST_SKIP() << "of GPUs";
  const Status status = RunOnRanks(2, {}, [](Communicator& world) {
    return MakeRankDevice(world, {DeviceName()}, /*rank_on_host=*/0, 1, {}).status();
  });
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("ranks 0 and 1 would share a GPU"));
}

}  // namespace
}  // namespace trireme
