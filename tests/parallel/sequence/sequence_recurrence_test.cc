// Linear attention over ranks against one rank: both outputs and every gradient, on every rank.
#include "parallel/sequence/sequence_recurrence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/autograd/node.h"
#include "core/base/philox.h"
#include "core/base/rng.h"
#include "core/ops/devices.h"
#include "tests/parallel/sequence/recurrence_ranks.h"

namespace trireme {
namespace {

using testing::Decay;
using testing::RecurrenceCase;
using testing::RecurrenceProblem;
using testing::RecurrenceValues;
using testing::SampleSet;
using testing::SampleSets;
using testing::ScanSetup;
using testing::ScanSetups;

RecurrenceCase Small() {
  RecurrenceCase c;
  c.h = 2;
  c.g = 1;
  c.key = 3;
  c.value = 5;
  return c;
}

void ExpectNear(const RecurrenceValues& got, const RecurrenceValues& want, double tolerance,
                const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const std::string name = absl::StrCat(what, ": ", testing::kRecurrenceNames[i]);
    ASSERT_EQ(got[i].size(), want[i].size()) << name;
    for (size_t j = 0; j < got[i].size(); ++j) {
      // Written so that NaN fails.
      if (!(std::abs(got[i][j] - want[i][j]) <= tolerance * std::max(1.0, std::abs(want[i][j])))) {
        ADD_FAILURE() << name << " element " << j << " is " << got[i][j] << ", not " << want[i][j];
        break;
      }
    }
  }
}

class SequenceRecurrenceTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, SequenceRecurrenceTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

// Every rule with every decay on packed documents, and one of each rule on the other samples.
TEST_P(SequenceRecurrenceTest, EqualsOneRankInF64) {
  const auto device = MakeCpuDevice();
  std::vector<RecurrenceProblem> problems;
  for (const SampleSet& samples : SampleSets()) {
    for (RecurrenceCase kind : testing::EveryKind(Small())) {
      const bool all = samples.name == "packed";
      if (!all && kind.decay != Decay::kScalar && kind.decay != Decay::kConstant) continue;
      problems.emplace_back(*device, kind, samples);
      if (kind.decay == Decay::kConstant || !all) {
        problems.emplace_back(*device, kind, samples, DType::kF64, DType::kF64, /*memories=*/3);
      }
      if (!all) continue;
      kind.initial = false;
      problems.emplace_back(*device, kind, samples);
    }
  }
  std::vector<RecurrenceValues> wholes;
  for (const RecurrenceProblem& problem : problems) wholes.push_back(problem.OnOneRank());
  testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    for (const ScanSetup& setup : ScanSetups()) {
      const AffineScan scan(*PlanScan(setup.scan, setup.params), world);
      for (size_t i = 0; i < problems.size(); ++i) {
        const RecurrenceProblem& problem = problems[i];
        ExpectNear(problem.OnThisRank(device, scan, setup.cut),
                   problem.PartOf(wholes[i], world, setup.cut), 1e-10,
                   absl::StrCat(setup.Name(), " ", problem.Name(), " rank ", world.rank()));
      }
    }
    return absl::OkStatus();
  });
}

// Random documents, some of them empty, in random samples: a rule, a scan and a cut for each.
TEST_P(SequenceRecurrenceTest, RandomLayouts) {
  const auto device = MakeCpuDevice();
  const std::vector<ScanSetup> setups = ScanSetups();
  const std::vector<RecurrenceCase> kinds = testing::EveryKind(Small());
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const RngKey key = MakeRngKey(seed, "layouts", 0);
    uint64_t drawn = 0;
    const auto draw = [&](int64_t below) {
      return static_cast<int64_t>(Philox(key, drawn++)[0] % below);
    };
    SampleSet set = {absl::StrCat("seed ", seed), {}};
    set.samples.resize(1 + draw(4));
    for (std::vector<int64_t>& documents : set.samples) {
      documents.push_back(1 + draw(30));
      for (int64_t i = draw(5); i > 0; --i) documents.push_back(draw(draw(2) == 0 ? 3 : 40));
    }
    const ScanSetup& setup = setups[seed % setups.size()];
    const RecurrenceProblem problem(*device, kinds[draw(kinds.size())], set, DType::kF64,
                                    DType::kF64, /*memories=*/draw(3));
    const RecurrenceValues whole = problem.OnOneRank();
    testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
      const AffineScan scan(*PlanScan(setup.scan, setup.params), world);
      ExpectNear(problem.OnThisRank(device, scan, setup.cut),
                 problem.PartOf(whole, world, setup.cut), 1e-10,
                 absl::StrCat(setup.Name(), " ", problem.Name(), " rank ", world.rank()));
      return absl::OkStatus();
    });
  }
}

double SquaredDistance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// The distance of all ranks to the result in f64: at most twice that of one rank.
TEST_P(SequenceRecurrenceTest, RoundsLikeOneRank) {
  const auto device = MakeCpuDevice();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const RecurrenceCase& kind : testing::EveryKind(Small())) {
      if (kind.decay != Decay::kScalar) continue;
      const SampleSet set = SampleSets()[0];
      const RecurrenceProblem exact(*device, kind, set, DType::kF64, dtype);
      const RecurrenceProblem rounded(*device, kind, set, dtype, dtype);
      const RecurrenceValues want = exact.OnOneRank(), one_rank = rounded.OnOneRank();
      for (const ScanSetup& setup : ScanSetups()) {
        testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
          const AffineScan scan(*PlanScan(setup.scan, setup.params), world);
          const RecurrenceValues got = rounded.OnThisRank(device, scan, setup.cut);
          const RecurrenceValues part = exact.PartOf(want, world, setup.cut);
          std::vector<double> squares;
          for (size_t i = 0; i < got.size(); ++i) {
            squares.push_back(SquaredDistance(got[i], part[i]));
          }
          const Tensor sums =
              Tensor::FromHost<double>(device, {static_cast<int64_t>(squares.size())}, squares);
          RETURN_IF_ERROR(world.AllReduce(sums, {.purpose = "distances"})->Wait());
          for (size_t i = 0; i < got.size(); ++i) {
            const double limit = 2 * std::sqrt(SquaredDistance(one_rank[i], want[i]));
            EXPECT_LE(std::sqrt(sums.ToVector()[i]), limit + 1e-7)
                << setup.Name() << " " << kind.name << " " << DTypeName(dtype) << " "
                << testing::kRecurrenceNames[i];
          }
          return absl::OkStatus();
        });
      }
    }
  }
}

// From forward to backward: the output and entry queries, linear in this rank's tokens, and for
// each of its slots a state and a transition. Nothing of what a scan gathered.
TEST_P(SequenceRecurrenceTest, KeepsNothingOfOtherRanks) {
  const auto device = MakeCpuDevice();
  RecurrenceCase kind;
  kind.rule = StateRule::kDelta;
  kind.key = kind.value = 32;
  const SampleSet set = {"", {{120}, {60, 61}}};
  const RecurrenceProblem problem(*device, kind, set);
  for (const ScanSetup& setup : ScanSetups()) {
    testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
      const AffineScan scan(*PlanScan(setup.scan, setup.params), world);
      const std::vector<int64_t> rows = problem.RowsOf(setup.cut, world.size(), world.rank());
      const auto take = [&](int i) { return testing::TakeRows(device, problem.tensors[i], rows); };
      RecurrenceInputs x;
      x.rule = kind.rule;
      x.q = take(0);
      x.k = take(1);
      x.v = take(2).set_requires_grad();
      x.beta = take(4);
      const RecurrencePlan plan = problem.PlanOf(setup.cut, world.size(), world.rank());
      const int64_t before = device.stats().current_total_bytes;
      const RecurrenceOutputs outputs = SequenceRecurrence(x, plan, scan, problem.tensors[7]);
      const int64_t n = static_cast<int64_t>(rows.size()), slots = plan.num_slots() / world.size();
      const int64_t states = 2 * slots + 1;  // And the final one.
      const int64_t elements = n * (32 + 32) + states * set.num_lines() * 32 * 32;
      EXPECT_LE(device.stats().current_total_bytes - before, 8 * elements + 4096)
          << setup.Name() << " rank " << world.rank();
      return absl::OkStatus();
    });
  }
}

// Without a gradient the output has the same bits, and nothing is kept.
TEST_P(SequenceRecurrenceTest, ForwardAlone) {
  const auto device = MakeCpuDevice();
  RecurrenceCase kind = Small();
  kind.decay = Decay::kChannel;
  const RecurrenceProblem problem(*device, kind, SampleSets()[0]);
  testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    const SequenceCut cut = SequenceCut::kZigzag;
    const AffineScan scan(*PlanScan("tree", {}), world);
    const std::vector<int64_t> rows = problem.RowsOf(cut, world.size(), world.rank());
    const auto take = [&](int i) { return testing::TakeRows(device, problem.tensors[i], rows); };
    RecurrenceInputs x;
    x.q = take(0);
    x.k = take(1);
    x.v = take(2);
    x.log_decay = take(3);
    x.v.set_requires_grad();
    const RecurrencePlan plan = problem.PlanOf(cut, world.size(), world.rank());
    const auto run = [&] { return SequenceRecurrence(x, plan, scan, problem.tensors[7]); };
    const std::vector<double> with = run().out.ToVector();
    const NoGrad no_grad;
    const int64_t before = device.stats().current_total_bytes;
    const RecurrenceOutputs outputs = run();
    EXPECT_EQ(outputs.out.ToVector(), with);
    EXPECT_FALSE(outputs.out.requires_grad());
    const int64_t kept = outputs.out.numel() + problem.dfinal.numel();
    EXPECT_LE(device.stats().current_total_bytes - before, 8 * kept + 1024);
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
