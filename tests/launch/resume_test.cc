// A run that is stopped after any of its steps and goes on in another process ends with the same
// bits as one that never stopped: weights, optimizer, place in the data.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"

#include "core/io/file.h"
#include "core/ops/devices.h"
#include "launch/checkpoint/checkpoint_dir.h"
#include "launch/run_dir.h"

namespace trireme {
namespace {

constexpr int kSteps = 12;

// Ragged documents, dropout, bf16 with its masters; an epoch is five steps long.
constexpr char kConfig[] = R"(
seed: 3
dtype: "bf16"
model {
  name: "transformer" width: 16 num_layers: 2 mlp_width: 20 dropout: 0.1
  S { name: "softmax" heads: 4 kv_heads: 2 }
}
data {
  dataset {
    name: "synthetic" vocabulary_size: 29 num_tokens: 500 max_document_tokens: 30
    validation_fraction: 0
  }
  sequence_length: 21
}
batch { global_batch_size: 4 micro_batch_size: 1 }
num_steps: 12
optimizer { name: "adamw" }
lr_schedule { name: "constant" warmup_steps: 7 }
learning_rate: 0.01
clip_norm: 0.5
)";

class ResumeTest : public ::testing::Test {
 protected:
  ResumeTest() : dir_(absl::StrCat(::testing::TempDir(), "/resume_", getpid())) {
    EXPECT_EQ(std::system(absl::StrCat("mkdir -p ", dir_).c_str()), 0);
    EXPECT_TRUE(WriteFileAtomically(absl::StrCat(dir_, "/run.textproto"), kConfig).ok());
  }
  ~ResumeTest() override { EXPECT_EQ(std::system(absl::StrCat("rm -r ", dir_).c_str()), 0); }

  // Trains `run` until num_steps updates are done, in a process of its own.
  void Train(absl::string_view run, int num_steps) {
    const std::string command =
        absl::StrCat("env -i PATH=/usr/bin:/bin ", TRIREME_PROGRAM,
                     " train --ranks 2 --threads 1 --config ", dir_, "/run.textproto --run_dir ",
                     dir_, "/", run, " --set num_steps=", num_steps, " > ", dir_, "/out 2>&1");
    ASSERT_EQ(std::system(command.c_str()), 0) << *ReadFile(absl::StrCat(dir_, "/out"));
  }

  // Every tensor of the last checkpoint, as bytes.
  std::map<std::string, std::vector<double>> State(absl::string_view run) {
    std::map<std::string, std::vector<double>> state;
    auto latest = FindLatest(CheckpointsDir(absl::StrCat(dir_, "/", run)));
    EXPECT_TRUE(latest.ok()) << latest.status();
    auto reader = CheckpointReader::Open(*latest);
    EXPECT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(reader->info().step, kSteps);
    state["next_sample"] = {static_cast<double>(*reader->info().Integer("next_sample"))};
    for (const auto& info : reader->tensors()) {
      const SavedTensor tensor{info.name, info.global, WholeBox(info.global),
                               Tensor::Empty(*device_, info.global, info.dtype), info.policy};
      EXPECT_TRUE(reader->Read(tensor).ok());
      state[info.name] = tensor.data.ToVector();
    }
    return state;
  }

  const std::string dir_;
  std::shared_ptr<CpuDevice> device_ = MakeCpuDevice();
};

TEST_F(ResumeTest, StoppedAfterAnyStepTheRunEndsWithTheSameBits) {
  Train("whole", kSteps);
  const auto expected = State("whole");
  ASSERT_GT(expected.size(), 40u);
  for (int stop = 1; stop < kSteps; ++stop) {
    SCOPED_TRACE(stop);
    const std::string run = absl::StrCat("stopped_", stop);
    Train(run, stop);
    Train(run, kSteps);
    const auto state = State(run);
    ASSERT_EQ(state.size(), expected.size());
    for (const auto& [name, values] : expected) EXPECT_EQ(state.at(name), values) << name;
    // The metrics are those of the run that never stopped, too.
    const std::string metrics = *ReadFile(MetricsPath(absl::StrCat(dir_, "/", run)));
    EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), kSteps);
  }
}

}  // namespace
}  // namespace trireme
