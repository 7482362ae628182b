// What recurrences and halos send, by purpose and pass, against the closed forms that `trireme
// mesh` prints; and that it does not grow with the length.
#include <gtest/gtest.h>

#include <map>

#include "parallel/sequence/recurrence_traffic.h"
#include "parallel/sequence/token_halo.h"
#include "tests/parallel/sequence/recurrence_ranks.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::Decay;
using testing::RecurrenceCase;
using testing::RecurrenceProblem;
using testing::SampleSet;
using testing::ScanSetup;

// By purpose: bytes, and calls that sent them.
using Sent = std::map<std::string, std::pair<int64_t, int64_t>>;

Sent SentBy(const Communicator& world) {
  Sent sent;
  for (const CallRecord& record : world.journal().Records()) {
    if (record.verb == Verb::kRecv || record.verb == Verb::kSplit) continue;
    sent[record.purpose].first += record.sent_bytes;
    ++sent[record.purpose].second;
  }
  return sent;
}
Sent SentBy(const Traffic& traffic) {
  Sent sent;
  for (const auto& [key, entry] : traffic.entries) {
    sent[key.second] = {entry.sent_bytes, entry.calls};
  }
  return sent;
}

int64_t TransitionOf(const RecurrenceCase& c) {
  if (c.rule != StateRule::kDiagonal) return c.key * c.key;
  return c.decay == Decay::kScalar ? 1 : c.decay == Decay::kChannel ? c.key : 0;
}

class RecurrenceBytesTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, RecurrenceBytesTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(RecurrenceBytesTest, EqualClosedForms) {
  RecurrenceCase like;
  like.h = 2;
  like.key = 3;
  like.value = 5;
  for (const ScanSetup& setup : testing::ScanSetups()) {
    const ScanPlan plan = *PlanScan(setup.scan, setup.params);
    for (const RecurrenceCase& kind : testing::EveryKind(like)) {
      if (kind.rule != StateRule::kDiagonal && kind.decay != Decay::kConstant) continue;
      Sent shorter;  // Of this rank, of the first set.
      for (const int64_t length : {24, 120}) {
        const SampleSet set = {"", {{length}, {length - 7, 6}}};
        for (const DType dtype : {DType::kF64, DType::kBF16}) {
          if (dtype == DType::kBF16 && length > 24) continue;
          testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
            const RecurrenceProblem problem(device, kind, set, dtype);
            problem.OnThisRank(device, AffineScan(plan, world), setup.cut);
            Traffic traffic;
            const auto segments = set.LayoutOf(setup.cut, world.size(), 0).axis_segments;
            for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
              AddScanTraffic(plan, setup.cut, {kind.h, kind.key, kind.value, TransitionOf(kind)},
                             segments, world.rank(), dtype, pass, &traffic);
            }
            const Sent sent = SentBy(world);
            EXPECT_EQ(sent, SentBy(traffic)) << setup.Name() << " " << kind.name;
            if (dtype != DType::kF64 || world.rank() != world.size() / 2) return absl::OkStatus();
            if (length == 24) shorter = sent;
            EXPECT_EQ(sent, shorter) << setup.Name() << " " << kind.name;
            return absl::OkStatus();
          });
        }
      }
    }
  }
}

TEST_P(RecurrenceBytesTest, HalosEqualClosedForms) {
  for (const SampleSet& set : testing::SampleSets()) {
    for (const SequenceCut cut : {SequenceCut::kContiguous, SequenceCut::kZigzag}) {
      testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
        const TokenLayout layout = set.LayoutOf(cut, world.size(), world.rank());
        Tensor x =
            testing::RandomTensor(device, {NumTokens(layout.segments), 4}, 1, 1, DType::kF32);
        x.set_requires_grad();
        const Tensor halo = TokenHalo(x, 3, layout, world);
        if (halo.defined()) Sum(halo).Backward();
        Traffic traffic;
        for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
          AddHaloTraffic({3, 4}, layout.axis_segments, world.rank(), DType::kF32, pass, &traffic);
        }
        EXPECT_EQ(SentBy(world), SentBy(traffic)) << set.name << " " << SequenceCutName(cut);
        return absl::OkStatus();
      });
    }
  }
}

}  // namespace
}  // namespace trireme
