#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/synchronization/barrier.h"

#include "launch/checkpoint/checkpoint_dir.h"
#include "tests/launch/checkpoint/checkpoint_fixture.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using CheckpointRoundTripTest = CheckpointTest;

TEST_F(CheckpointRoundTripTest, AnyLayoutLoadsWhatAnyLayoutSaved) {
  int64_t step = 0;
  for (const int savers : {1, 2, 3, 9}) {
    ++step;
    const Status saved = Save(dir_.path(), step, savers);
    ASSERT_TRUE(saved.ok()) << saved;
    for (const int loaders : {1, 2, 3, 5}) {
      const Status loaded = LoadAndCompare(dir_ / CheckpointName(step), step, loaders);
      EXPECT_TRUE(loaded.ok()) << loaded << " saved by " << savers << ", loaded by " << loaders;
    }
    EXPECT_EQ(*FindLatest(dir_.path()), dir_ / CheckpointName(step));
  }
}

TEST_F(CheckpointRoundTripTest, InfoComesBack) {
  ASSERT_TRUE(Save(dir_.path(), 12, 2).ok());
  EXPECT_THAT(NamesIn(dir_.path()), ElementsAre("step-00000012"));
  EXPECT_THAT(NamesIn(dir_ / "step-00000012"),
              ElementsAre("manifest.pb", "shard-00000-of-00002.safetensors",
                          "shard-00001-of-00002.safetensors"));
  const auto reader = CheckpointReader::Open(dir_ / "step-00000012");
  ASSERT_TRUE(reader.ok()) << reader.status();
  const CheckpointInfo& info = reader->info();
  EXPECT_EQ(info.step, 12);
  EXPECT_EQ(info.config, "seed: 1");
  EXPECT_EQ(info.mesh, Info(12).mesh);
  EXPECT_EQ(info.scalars, Info(12).scalars);
  EXPECT_EQ(*info.Integer("next_sample"), 96);
  EXPECT_EQ(*info.Number("loss"), 2.5);
  EXPECT_EQ(*info.Text("note"), "text");
  EXPECT_THAT(Message(info.Integer("loss").status()), HasSubstr("'loss'"));
  EXPECT_THAT(Message(info.Integer("none").status()), HasSubstr("no scalar 'none'"));
  EXPECT_TRUE(reader->CheckConfigHash("abc").ok());
  EXPECT_EQ(reader->CheckConfigHash("abd").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(reader->tensors().size(), 5u);
  EXPECT_EQ(reader->Find("columns")->global, (Shape{3, 8}));
  EXPECT_EQ(reader->Find("column"), nullptr);
}

TEST_F(CheckpointRoundTripTest, SameStateGivesTheSameBytes) {
  ASSERT_TRUE(Save(dir_ / "a", 3, 2).ok());
  ASSERT_TRUE(Save(dir_ / "b", 3, 2).ok());
  for (const std::string& name : NamesIn(dir_ / "a/step-00000003")) {
    EXPECT_EQ(*ReadFile(dir_ / "a/step-00000003/" + name),
              *ReadFile(dir_ / "b/step-00000003/" + name));
  }
}

TEST_F(CheckpointRoundTripTest, EveryTypeAndManyBlocks) {
  CheckpointWriter writer(dir_.path(), 1);
  ASSERT_TRUE(writer.Prepare().ok());
  std::vector<SavedTensor> tensors;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16, DType::kI64,
                            DType::kI32, DType::kU8}) {
    const Shape shape{601, 601};  // 2.9 MB of f64: three blocks of checksums.
    tensors.push_back(Saved(DTypeName(dtype), 1, shape, WholeBox(shape), dtype));
  }
  ASSERT_TRUE(writer.Commit({*writer.WriteShard(0, 1, tensors)}, Info(1)).ok());
  auto reader = CheckpointReader::Open(dir_ / CheckpointName(1));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE(reader->Verify(CheckpointReader::Depth::kData).ok());
  for (const SavedTensor& tensor : tensors) {
    for (const Box& box :
         {WholeBox({601, 601}), Box{{599, 1}, {2, 600}}, Box{{3, 600}, {590, 1}}}) {
      SavedTensor part = tensor;
      part.local = box;
      part.data = Tensor::Zeros(*device_, box.size, tensor.data.dtype());
      ASSERT_TRUE(reader->Read(part).ok());
      EXPECT_EQ(part.data.ToVector(),
                MakeBox(tensor.name, 1, {601, 601}, box, part.data.dtype()).ToVector());
    }
  }
}

TEST_F(CheckpointRoundTripTest, SeveralBoxesOfOneTensorOnOneRank) {
  CheckpointWriter writer(dir_.path(), 1);
  ASSERT_TRUE(writer.Prepare().ok());
  const Shape shape{6};
  const std::vector<SavedTensor> zigzag = {Saved("t", 1, shape, {{0}, {2}}, DType::kF32),
                                           Saved("t", 1, shape, {{4}, {2}}, DType::kF32)};
  const std::vector<SavedTensor> middle = {Saved("t", 1, shape, {{2}, {2}}, DType::kF32)};
  const Status committed =
      writer.Commit({*writer.WriteShard(0, 2, zigzag), *writer.WriteShard(1, 2, middle)}, Info(1));
  ASSERT_TRUE(committed.ok()) << committed;
  SavedTensor whole = Saved("t", 1, shape, WholeBox(shape), DType::kF32);
  const std::vector<double> expected = whole.data.ToVector();
  whole.data.Fill(0);
  ASSERT_TRUE(CheckpointReader::Open(dir_ / CheckpointName(1))->Read(whole).ok());
  EXPECT_EQ(whole.data.ToVector(), expected);
}

TEST_F(CheckpointRoundTripTest, ReadRefusesWhatDoesNotFit) {
  ASSERT_TRUE(Save(dir_.path(), 1, 1).ok());
  auto reader = CheckpointReader::Open(dir_ / CheckpointName(1));
  const SavedTensor good = Saved("rows", 1, {7, 5}, {{0, 0}, {7, 5}}, DType::kF32);
  EXPECT_TRUE(reader->Read(good).ok());
  SavedTensor bad = good;
  bad.name = "row";
  EXPECT_EQ(reader->Read(bad).code(), absl::StatusCode::kNotFound);
  bad = good;
  bad.global = {8, 5};
  EXPECT_THAT(Message(reader->Read(bad)), HasSubstr("has shape [7, 5], expected [8, 5]"));
  bad = good;
  bad.data = bad.data.CopyTo(DType::kF64);
  EXPECT_THAT(Message(reader->Read(bad)), HasSubstr("has dtype f32, expected f64"));
  bad = good;
  bad.policy = ReplicaPolicy::kMean;
  EXPECT_THAT(Message(reader->Read(bad)), HasSubstr("has policy shared, expected mean"));
  bad = good;
  bad.local.begin[0] = 1;
  EXPECT_THAT(Message(reader->Read(bad)), HasSubstr("no box"));
}

TEST_F(CheckpointRoundTripTest, CommitRefusesOverlapsAndHoles) {
  const auto commit = [this](std::vector<std::vector<SavedTensor>> ranks) {
    CheckpointWriter writer(dir_.path(), 1);
    EXPECT_TRUE(writer.Prepare().ok());
    std::vector<std::string> reports;
    for (size_t r = 0; r < ranks.size(); ++r) {
      reports.push_back(*writer.WriteShard(r, ranks.size(), ranks[r]));
    }
    return writer.Commit(reports, Info(1));
  };
  const SavedTensor left = Saved("t", 1, {6}, {{0}, {4}}, DType::kF32);
  const SavedTensor right = Saved("t", 1, {6}, {{3}, {3}}, DType::kF32);
  EXPECT_THAT(Message(commit({{left}, {right}})),
              HasSubstr("tensor 't': boxes [0:4] and [3:6] overlap"));
  EXPECT_THAT(Message(commit({{left}, {}})), HasSubstr("tensor 't': boxes cover 4 of 6"));
  SavedTensor other = Saved("t", 1, {6}, {{4}, {2}}, DType::kF64);
  EXPECT_THAT(Message(commit({{left}, {other}})),
              HasSubstr("'t' of rank 1 has another shape, dtype"));
  EXPECT_TRUE(ListCheckpoints(dir_.path())->empty());
}

struct ReplicaCase {
  ReplicaPolicy policy;
  std::vector<double> expected;  // Of both elements of each of two replicas; empty: an error.
};

// Three replicas hold {1, 2}, {4, 8}, {7, 0}.
TEST_F(CheckpointRoundTripTest, ReplicaPoliciesOnAnotherNumberOfReplicas) {
  for (const ReplicaCase& c :
       {ReplicaCase{ReplicaPolicy::kSame, {1, 2}}, ReplicaCase{ReplicaPolicy::kMean, {4, 10.0 / 3}},
        ReplicaCase{ReplicaPolicy::kSumOverN, {6, 5}}, ReplicaCase{ReplicaPolicy::kDrop, {0, 0}},
        ReplicaCase{ReplicaPolicy::kRefuse, {}}}) {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kI64}) {
      CheckpointWriter writer(dir_.path(), 1);
      ASSERT_TRUE(writer.Prepare().ok());
      std::vector<std::string> reports;
      const std::vector<std::vector<double>> values = {{1, 2}, {4, 8}, {7, 0}};
      for (int r = 0; r < 3; ++r) {
        const Tensor data = Tensor::FromVector(*device_, {1, 2}, values[r], dtype);
        reports.push_back(
            *writer.WriteShard(r, 3, {{"m", {3, 2}, {{r, 0}, {1, 2}}, data, c.policy}}));
      }
      ASSERT_TRUE(writer.Commit(reports, Info(1)).ok());
      auto reader = CheckpointReader::Open(dir_ / CheckpointName(1));

      // The same number of replicas: each has its own back, whatever the policy.
      const Tensor own = Tensor::Zeros(*device_, {1, 2}, dtype);
      ASSERT_TRUE(reader->Read({"m", {3, 2}, {{1, 0}, {1, 2}}, own, c.policy}).ok());
      EXPECT_EQ(own.ToVector(), values[1]);

      const Tensor both = Tensor::Full(*device_, {2, 2}, dtype, 9);
      const Status status = reader->Read({"m", {2, 2}, {{0, 0}, {2, 2}}, both, c.policy});
      const bool averages =
          c.policy == ReplicaPolicy::kMean || c.policy == ReplicaPolicy::kSumOverN;
      if (c.expected.empty() || (averages && dtype == DType::kI64)) {
        EXPECT_THAT(Message(status), HasSubstr("'m' was saved of 3 replicas, there are 2 now"));
        continue;
      }
      ASSERT_TRUE(status.ok()) << status;
      const Tensor expected = Tensor::FromVector(
          *device_, {2, 2}, {c.expected[0], c.expected[1], c.expected[0], c.expected[1]}, dtype);
      EXPECT_EQ(both.ToVector(), expected.ToVector())
          << ReplicaPolicyName(c.policy) << DTypeName(dtype);
    }
  }
}

// SaveCheckpoint by thread ranks: gather and broadcast through shared memory.
class CheckpointGroupTest : public CheckpointTest {
 protected:
  std::vector<Status> SaveOnRanks(const std::string& dir, int num_ranks, int64_t step, int keep,
                                  int faulty_rank = -1) {
    std::vector<Status> statuses(num_ranks);
    std::vector<std::string> slots(num_ranks);
    std::string shared;
    std::vector<std::vector<SavedTensor>> states;
    for (int r = 0; r < num_ranks; ++r) {
      states.push_back(State(step, r, num_ranks));
      if (r == faulty_rank) states.back()[0].name = "\xFF";
    }
    // A fresh barrier for each of the (at most eight) meetings.
    std::vector<absl::Barrier*> barriers(8);
    for (absl::Barrier*& barrier : barriers) barrier = new absl::Barrier(num_ranks);
    std::vector<std::thread> threads;
    for (int r = 0; r < num_ranks; ++r) {
      threads.emplace_back([&, r] {
        size_t meeting = 0;
        const auto meet = [&] {
          absl::Barrier* const barrier = barriers.at(meeting++);
          if (barrier->Block()) delete barrier;
        };
        CheckpointGroup group;
        group.rank = r;
        group.size = num_ranks;
        group.gather = [&](const std::string& mine) {
          slots[r] = mine;
          meet();
          return r == 0 ? slots : std::vector<std::string>();
        };
        group.broadcast = [&](const std::string& text) {
          if (r == 0) shared = text;
          meet();
          const std::string result = shared;
          meet();
          return result;
        };
        statuses[r] = SaveCheckpoint(group, dir, states[r], Info(step), keep);
        while (meeting < barriers.size()) meet();
      });
    }
    for (std::thread& thread : threads) thread.join();
    return statuses;
  }
};

TEST_F(CheckpointGroupTest, ThreeRanksSaveAndKeepTwo) {
  for (const int64_t step : {4, 8, 12, 16}) {
    for (const Status& status : SaveOnRanks(dir_.path(), 3, step, 2))
      ASSERT_TRUE(status.ok()) << status;
  }
  EXPECT_THAT(NamesIn(dir_.path()), ElementsAre("step-00000012", "step-00000016"));
  EXPECT_TRUE(LoadAndCompare(dir_ / CheckpointName(16), 16, 2).ok());
}

TEST_F(CheckpointGroupTest, AnErrorOfOneRankIsTheErrorOfAll) {
  ASSERT_TRUE(Save(dir_.path(), 4, 3).ok());
  for (const Status& status : SaveOnRanks(dir_.path(), 3, 8, 2, /*faulty_rank=*/2)) {
    EXPECT_THAT(Message(status), HasSubstr("checkpoint of step 8: rank 2: "));
  }
  EXPECT_THAT(NamesIn(dir_.path()), ElementsAre("step-00000004"));
}

TEST_F(CheckpointGroupTest, UnwritableDirectoryIsTheErrorOfAll) {
  ASSERT_TRUE(WriteFileAtomically(dir_ / "file", "").ok());
  for (const Status& status : SaveOnRanks(dir_ / "file", 2, 8, 2)) EXPECT_FALSE(status.ok());
}

TEST_F(CheckpointRoundTripTest, SavingAStepAgainReplacesIt) {
  ASSERT_TRUE(Save(dir_.path(), 5, 3).ok());
  ASSERT_TRUE(Save(dir_.path(), 5, 1).ok());
  EXPECT_EQ(NamesIn(dir_ / CheckpointName(5)).size(), 2u);
  EXPECT_THAT(NamesIn(dir_.path()), ElementsAre("step-00000005"));
}

}  // namespace
}  // namespace trireme
