// Rows before each run, wherever they are: against a look at every position, and short convolutions
// over ranks against one rank.
#include "parallel/sequence/token_halo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/ops/devices.h"
#include "core/ops/ops.h"
#include "tests/parallel/sequence/recurrence_ranks.h"
#include "tests/testing/gradient_check.h"
#include "tests/testing/mutating_communicator.h"

namespace trireme {
namespace {

using testing::RandomTensor;
using testing::SampleSet;
using testing::TakeRows;
using testing::TestWorld;
using Values = std::vector<double>;

constexpr SequenceCut kCuts[] = {SequenceCut::kContiguous, SequenceCut::kZigzag};
constexpr int64_t kChannels = 3;

std::vector<SampleSet> Sets() {
  std::vector<SampleSet> sets = testing::SampleSets();
  sets.push_back({"tiny_pieces", {{9}, {2, 5, 1}, {11, 3}}});
  return sets;
}

std::vector<TokenRun> RunsOf(const TokenLayout& layout) {
  std::vector<TokenRun> runs;
  for (const DocumentRun& run : DocumentRuns(layout.segments, layout.documents)) {
    runs.push_back(run.rows);
  }
  return runs;
}

class TokenHaloTest : public ::testing::TestWithParam<TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, TokenHaloTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

// Row r of the whole has value r + 1 in its first channel, so that each row of a halo names itself.
TEST_P(TokenHaloTest, HoldsTheRowsBefore) {
  testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    for (const SampleSet& set : Sets()) {
      for (const SequenceCut cut : kCuts) {
        for (const int64_t width : {0, 1, 3, 7}) {
          const TokenLayout layout = set.LayoutOf(cut, world.size(), world.rank());
          const std::vector<int64_t> rows = set.RowsOf(cut, world.size(), world.rank());
          Values names;
          for (const int64_t row : rows) names.push_back(static_cast<double>(row + 1));
          const int64_t n = static_cast<int64_t>(rows.size());
          const Tensor x = Tensor::FromVector(device, {n, 1}, names, DType::kF64);
          const Tensor halo = TokenHalo(x, width, layout, world);
          Values want;
          for (const DocumentRun& run : DocumentRuns(layout.segments, layout.documents)) {
            for (int64_t i = width; i > 0; --i) {
              const bool inside = run.first - i >= run.document.begin;
              want.push_back(inside ? static_cast<double>(rows[run.rows.begin] - i + 1) : 0);
            }
          }
          const Values got = halo.defined() ? halo.ToVector() : Values(want.size(), 0);
          EXPECT_EQ(got, want) << set.name << " " << SequenceCutName(cut) << " width " << width
                               << " rank " << world.rank();
        }
      }
    }
    return absl::OkStatus();
  });
}

// y, dx and dweight of a short convolution with random dy.
std::vector<Values> Convolve(Tensor x, Tensor weight, const Tensor& dy, const TokenLayout& layout,
                             Communicator* axis) {
  x.set_requires_grad();
  weight.set_requires_grad();
  const Tensor history =
      axis == nullptr ? Tensor() : TokenHalo(x, weight.dim(1) - 1, layout, *axis);
  const Tensor y = ShortConv(x, weight, Tensor(), RunsOf(layout), history);
  Sum(Mul(y, dy)).Backward();
  return {y.ToVector(), x.grad().ToVector(), weight.grad().ToVector()};
}

// What is off by more than 1e-12 on all ranks, in outputs and gradients; dweight is a sum over
// ranks.
double ErrorOfConvolutions(Communicator& world, Communicator& axis, Device& device,
                           const SampleSet& set, SequenceCut cut) {
  const Tensor x = RandomTensor(device, {set.num_tokens(), kChannels}, 1);
  const Tensor weight = RandomTensor(device, {kChannels, 4}, 2);
  const Tensor dy = RandomTensor(device, x.shape(), 3);
  const auto whole =
      Convolve(x.CopyTo(x.dtype()), weight.CopyTo(x.dtype()), dy, set.LayoutOf(cut, 1, 0), nullptr);
  const std::vector<int64_t> rows = set.RowsOf(cut, world.size(), world.rank());
  const auto part =
      Convolve(TakeRows(device, x, rows), weight.CopyTo(x.dtype()), TakeRows(device, dy, rows),
               set.LayoutOf(cut, world.size(), world.rank()), &axis);
  const Tensor dweight = Tensor::FromVector(device, weight.shape(), part[2], DType::kF64);
  ThrowIfError(world.AllReduce(dweight, {.purpose = "test"})->Wait());
  double worst = 0;
  const auto compare = [&](const Values& got, const Values& want) {
    for (size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - want[i]));
  };
  for (int i = 0; i < 2; ++i) {
    const Tensor all = Tensor::FromVector(device, x.shape(), whole[i], DType::kF64);
    compare(part[i], TakeRows(device, all, rows).ToVector());
  }
  compare(dweight.ToVector(), whole[2]);
  return worst;
}

TEST_P(TokenHaloTest, ShortConvolutionsEqualOneRank) {
  testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    for (const SampleSet& set : Sets()) {
      for (const SequenceCut cut : kCuts) {
        EXPECT_LE(ErrorOfConvolutions(world, world, device, set, cut), 1e-12)
            << set.name << " " << SequenceCutName(cut) << " rank " << world.rank();
      }
    }
    return absl::OkStatus();
  });
}

// Pieces at least as long as the halo: every rank sends `width` rows for each slot that another
// rank's slot follows, and backward as many come back. The length does not matter.
TEST(HaloBytesTest, EqualTheClosedForm) {
  for (const int size : {2, 3, 4, 8}) {
    for (const int64_t length : {64, 640}) {
      for (const SequenceCut cut : kCuts) {
        const SampleSet set = {"", {{length}, {length / 2, length / 2}}};
        testing::OnRanks({TestWorld::kLocal, size}, {}, [&](Device& device, Communicator& world) {
          const std::vector<int> owners = SlotOwners(cut, size);
          int64_t slots_before = 0, slots_behind = 0;  // Of other ranks, along one sample.
          for (size_t slot = 1; slot < owners.size(); ++slot) {
            if (owners[slot] == owners[slot - 1]) continue;
            slots_behind += owners[slot - 1] == world.rank();
            slots_before += owners[slot] == world.rank();
          }
          const int64_t before = world.journal().SentBytes(world.axis());
          const std::vector<int64_t> rows = set.RowsOf(cut, size, world.rank());
          Tensor x = RandomTensor(device, {static_cast<int64_t>(rows.size()), kChannels}, 1);
          x.set_requires_grad();
          Sum(TokenHalo(x, 3, set.LayoutOf(cut, size, world.rank()), world)).Backward();
          EXPECT_EQ(world.journal().SentBytes(world.axis()) - before,
                    (slots_before + slots_behind) * 2 * 3 * kChannels * 8);
          return absl::OkStatus();
        });
      }
    }
  }
}

TEST(HaloMutationTest, EveryMessageMatters) {
  using testing::CallMutator;
  const auto run = [](CallMutator& mutator) {
    double worst = 0;
    testing::OnRanks({TestWorld::kLocal, 3}, {}, [&](Device& device, Communicator& world) {
      const auto axis = mutator.Wrap(world);
      const double error =
          ErrorOfConvolutions(world, *axis, device, {"", {{40}}}, SequenceCut::kZigzag);
      const Tensor all = Tensor::FromHost<double>(device, {1}, {&error, 1});
      ThrowIfError(world.AllReduce(all, {.purpose = "test", .op = ReduceOp::kMax})->Wait());
      if (world.rank() == 0) worst = all.Item();
      return absl::OkStatus();
    });
    return worst;
  };
  CallMutator recorder;
  EXPECT_LE(run(recorder), 1e-12);
  const auto calls = recorder.TakeCalls();
  EXPECT_EQ(calls.size(), 4u);  // Sent and received, forward and backward.
  for (const auto& [site, count] : calls) {
    for (const testing::Mutation mutation : testing::MutationsOf(site)) {
      CallMutator mutator(site, mutation);
      EXPECT_GT(run(mutator), 1e-3) << site.ToString() << " " << MutationName(mutation);
    }
  }
}

TEST(HaloFailuresTest, AFailureEndsAllRanks) {
  for (const bool backward : {false, true}) {
    const absl::Time begin = absl::Now();
    const Status status = testing::RunOn(
        {TestWorld::kLocal, 3}, {}, [&](Device& device, Communicator& world) -> Status {
          const SampleSet set = {"", {{40}}};
          const auto fail = [] { throw Failure(absl::ResourceExhaustedError("no memory left")); };
          if (world.rank() == 1 && !backward) fail();
          const std::vector<int64_t> rows = set.RowsOf(SequenceCut::kZigzag, 3, world.rank());
          Tensor x = RandomTensor(device, {static_cast<int64_t>(rows.size()), kChannels}, 1);
          x.set_requires_grad();
          const Tensor halo =
              TokenHalo(x, 3, set.LayoutOf(SequenceCut::kZigzag, 3, world.rank()), world);
          if (world.rank() == 1) fail();
          Sum(halo).Backward();
          return absl::OkStatus();
        });
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  }
}

}  // namespace
}  // namespace trireme
