// Linear attention over ranks against one rank: both outputs and every gradient, on every rank.
#include "parallel/sequence/sequence_recurrence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

#include "core/autograd/node.h"
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

}  // namespace
}  // namespace trireme
