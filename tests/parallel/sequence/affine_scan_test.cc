// Every transport against a loop over the slots on the host, in both directions; and what it sends.
#include "parallel/sequence/affine_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/ops/ops.h"
#include "parallel/sequence/sequence_cut.h"
#include "tests/testing/gradient_check.h"
#include "tests/testing/mutating_communicator.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using testing::RandomTensor;
using testing::TestWorld;
using Values = std::vector<double>;

constexpr int64_t kHeads = 2, kKeys = 3, kColumns = 5;
constexpr SequenceCut kCuts[] = {SequenceCut::kContiguous, SequenceCut::kZigzag};
constexpr ScanDirection kDirections[] = {ScanDirection::kForward, ScanDirection::kReverse};

struct Method {
  std::string name;
  ParamMap params;

  std::string Name() const {
    std::string text = name;
    for (const auto& [key, value] : params) absl::StrAppend(&text, " ", key, "=", value);
    return text;
  }
  ScanPlan Plan() const {
    const auto plan = PlanScan(name, params);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return *plan;
  }
};

// The whole registry.
std::vector<Method> Methods() {
  std::vector<Method> methods;
  for (const auto& entry : Scans()) {
    methods.push_back({entry.name, {}});
    if (std::string(entry.name) == "pipelined") {
      for (const char* blocks : {"1", "2", "3"})
        methods.push_back({entry.name, {{"blocks", blocks}}});
    }
  }
  return methods;
}

// What slots do to states, by names of the spec: none, constant (known to all), scalar, vector,
// matrix.
enum class Family { kNone, kConstant, kScalar, kVector, kMatrix };
constexpr Family kFamilies[] = {Family::kNone, Family::kConstant, Family::kScalar, Family::kVector,
                                Family::kMatrix};

struct Case {
  Family family;
  int64_t lines;
  bool initial;
  double reset_share = 0.3;

  std::string Name() const {
    return absl::StrCat("family ", static_cast<int>(family), ", ", lines, " lines",
                        initial ? ", initial" : "");
  }
  TransitionKind kind() const {
    switch (family) {
      case Family::kNone:
        return TransitionKind::kIdentity;
      case Family::kMatrix:
        return TransitionKind::kMatrix;
      default:
        return TransitionKind::kDecay;
    }
  }
  int64_t TransitionSize() const {
    switch (family) {
      case Family::kNone:
        return 0;
      case Family::kMatrix:
        return kKeys * kKeys;
      case Family::kVector:
        return kKeys;
      default:
        return 1;
    }
  }
  int64_t sent_transition() const {
    return family == Family::kConstant ? 0 : lines * kHeads * TransitionSize();
  }
  int64_t state() const { return lines * kHeads * kKeys * kColumns; }

  AffineMap MapOf(Device& device, int slot) const {
    AffineMap map;
    map.kind = kind();
    map.state = RandomTensor(device, {lines, kHeads, kKeys, kColumns}, 100 + slot);
    if (kind() == TransitionKind::kMatrix) {
      map.transition = RandomTensor(device, {lines, kHeads, kKeys, kKeys}, 200 + slot, 0.6);
    } else if (kind() == TransitionKind::kDecay) {
      map.transition =
          Neg(Abs(RandomTensor(device, {lines, kHeads, TransitionSize()}, 300 + slot)));
    }
    const Values draw = RandomTensor(device, {lines}, 400 + slot).ToVector();
    for (const double x : draw)
      map.resets.push_back(std::erfc(-x / std::sqrt(2)) / 2 < reset_share);
    return map;
  }
  Tensor Initial(Device& device) const {
    return initial ? RandomTensor(device, {lines, kHeads, kKeys, kColumns}, 7) : Tensor();
  }
  ScanSlots Slots(Device& device, SequenceCut cut, int size) const {
    ScanSlots slots;
    slots.owners = SlotOwners(cut, size);
    std::vector<Tensor> decays;
    for (int slot = 0; slot < static_cast<int>(slots.owners.size()); ++slot) {
      const AffineMap map = MapOf(device, slot);
      slots.resets.push_back(map.resets);
      if (family == Family::kConstant) {
        decays.push_back(Reshape(map.transition, {1, lines, kHeads, 1}));
      }
    }
    if (family == Family::kConstant) slots.known_decay = Concat(decays, 0);
    return slots;
  }
  std::vector<AffineMap> OwnMaps(Device& device, const ScanSlots& slots, int rank) const {
    std::vector<AffineMap> maps;
    for (int slot = 0; slot < static_cast<int>(slots.owners.size()); ++slot) {
      if (slots.owners[slot] == rank) maps.push_back(MapOf(device, slot));
    }
    return maps;
  }

  // The states before each slot of the direction, in sequence order, and behind the last.
  std::vector<Values> Fold(Device& device, int num_slots, ScanDirection direction) const {
    const bool reverse = direction == ScanDirection::kReverse;
    std::vector<Values> states(num_slots + 1);
    Values state(this->state(), 0);
    if (initial) state = Initial(device).ToVector();
    for (int place = 0; place < num_slots; ++place) {
      const int slot = reverse ? num_slots - 1 - place : place;
      states[slot] = state;
      const AffineMap map = MapOf(device, slot);
      const Values local = map.state.ToVector();
      const Values m = map.transition.defined() ? map.transition.ToVector() : Values();
      Values next(state.size());
      for (int64_t b = 0; b < lines * kHeads; ++b) {
        for (int64_t i = 0; i < kKeys; ++i) {
          for (int64_t v = 0; v < kColumns; ++v) {
            double sum = 0;
            for (int64_t j = 0; j < kKeys; ++j) {
              const double s = state[(b * kKeys + j) * kColumns + v];
              if (kind() == TransitionKind::kMatrix) {
                sum += m[(b * kKeys + (reverse ? j : i)) * kKeys + (reverse ? i : j)] * s;
              } else if (i == j) {
                const int64_t w = TransitionSize();
                sum += w == 0 ? s : std::exp(m[b * w + (w == 1 ? 0 : i)]) * s;
              }
            }
            const int64_t at = (b * kKeys + i) * kColumns + v;
            next[at] = local[at] + (map.resets[b / kHeads] ? 0 : sum);
          }
        }
      }
      state = next;
    }
    states[num_slots] = state;
    return states;
  }
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Family family : kFamilies) {
    cases.push_back({family, 3, true});
    cases.push_back({family, 1, false});
    cases.push_back({family, 2, true, 0});  // No resets.
  }
  cases.push_back({Family::kMatrix, 2, true, 1});  // Nothing else.
  cases.push_back({Family::kVector, 0, false});    // A micro-batch without tokens.
  return cases;
}

void ExpectNear(const Tensor& got, const Values& want, const std::string& what) {
  const Values zeros(want.size(), 0);
  const Values values = got.defined() ? got.ToVector() : zeros;
  ASSERT_EQ(values.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!(std::abs(values[i] - want[i]) <= 1e-12 * std::max(1.0, std::abs(want[i])))) {
      ADD_FAILURE() << what << ": element " << i << " is " << values[i] << ", not " << want[i];
      return;
    }
  }
}

void RunScan(Device& device, Communicator& axis, const Method& method, const Case& c,
             SequenceCut cut, ScanDirection direction) {
  const ScanSlots slots = c.Slots(device, cut, axis.size());
  const int num_slots = static_cast<int>(slots.owners.size());
  const bool reverse = direction == ScanDirection::kReverse;
  const AffineScan scan(method.Plan(), axis);
  const bool first = slots.owners[reverse ? num_slots - 1 : 0] == axis.rank();
  const auto pending = scan.Start(slots, c.OwnMaps(device, slots, axis.rank()),
                                  first ? c.Initial(device) : Tensor(), direction);
  const PendingScan::States states = pending->Join();
  const std::vector<Values> want = c.Fold(device, num_slots, direction);
  const std::string what = absl::StrCat(method.Name(), " ", SequenceCutName(cut), " ", c.Name(),
                                        reverse ? " reverse" : "", " rank ", axis.rank());
  size_t own = 0;
  for (int slot = 0; slot < num_slots; ++slot) {
    if (slots.owners[slot] != axis.rank()) continue;
    ExpectNear(states.entering.at(own++), want[slot], absl::StrCat(what, " slot ", slot));
  }
  EXPECT_EQ(own, states.entering.size());
  const bool last = slots.owners[reverse ? 0 : num_slots - 1] == axis.rank();
  EXPECT_TRUE(last || !states.leaving.defined()) << what;
  if (last) {
    ExpectNear(states.leaving, want[num_slots], what + " leaving");
  }
}

class AffineScanTest : public ::testing::TestWithParam<TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, AffineScanTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(AffineScanTest, EqualsTheFold) {
  testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    for (const Method& method : Methods()) {
      for (const Case& c : Cases()) {
        for (const SequenceCut cut : kCuts) {
          for (const ScanDirection direction : kDirections) {
            RunScan(device, world, method, c, cut, direction);
          }
        }
      }
    }
    return absl::OkStatus();
  });
}

// Several under way at once on a communicator of their own each.
TEST_P(AffineScanTest, ScansOverlap) {
  testing::OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
    ASSIGN_OR_RETURN(const auto other, world.Split(0, world.rank(), "other"));
    const Case c = Cases()[0];
    const ScanSlots slots = c.Slots(device, SequenceCut::kZigzag, world.size());
    for (const Method& method : Methods()) {
      const AffineScan one(method.Plan(), world), two(method.Plan(), *other);
      const auto maps = c.OwnMaps(device, slots, world.rank());
      auto a = one.Start(slots, maps, c.Initial(device), ScanDirection::kForward);
      auto b = two.Start(slots, maps, c.Initial(device), ScanDirection::kForward);
      const Values x = b->Join().entering[0].ToVector();
      EXPECT_EQ(x, a->Join().entering[0].ToVector());
    }
    return absl::OkStatus();
  });
}

// A map's state, and what of its transition is sent, in f64.
struct Payload {
  int64_t state, map;
};
Payload PayloadOf(const Case& c) { return {8 * c.state(), 8 * (c.state() + c.sent_transition())}; }

int64_t SentFor(const Communicator& world) { return world.journal().SentBytes(world.axis()); }

// What one scan sends on every rank: its largest and its sum.
struct Sent {
  int64_t most = 0, sum = 0;
};
Sent Measure(int size, const Method& method, const Case& c, SequenceCut cut,
             ScanDirection direction) {
  std::vector<int64_t> sent(size);
  testing::OnRanks({TestWorld::kLocal, size}, {}, [&](Device& device, Communicator& world) {
    const int64_t before = SentFor(world);
    RunScan(device, world, method, c, cut, direction);
    sent[world.rank()] = SentFor(world) - before;
    // The same by the closed form of each rank.
    std::vector<int> owners = SlotOwners(cut, size);
    if (direction == ScanDirection::kReverse) std::reverse(owners.begin(), owners.end());
    const Payload payload = PayloadOf(c);
    const ScanSizes sizes = {payload.state, payload.map - payload.state, kColumns};
    const ScanPlan plan = ResolveScan(method.Plan(), owners, sizes);
    EXPECT_EQ(sent[world.rank()], SentByScan(plan, owners, world.rank(), sizes).bytes)
        << method.Name() << " " << SequenceCutName(cut) << " rank " << world.rank();
    return absl::OkStatus();
  });
  return {*std::max_element(sent.begin(), sent.end()),
          std::accumulate(sent.begin(), sent.end(), int64_t{0})};
}

// The closed forms of the literature: of ranks with one slot, the most that one of them sends (with
// all_gather, receives: as much), in each direction. Two slots a rank: twice as much in all.
TEST(ScanBytesTest, EqualClosedForms) {
  for (const int64_t w : {2, 3, 4, 8}) {
    const int64_t rounds = w == 2 ? 1 : w <= 4 ? 2 : 3;
    for (const Family family : kFamilies) {
      const Case c = {family, 2, true};
      const Payload payload = PayloadOf(c);
      const std::map<std::string, int64_t> want = {{"ring", payload.state},
                                                   {"pipelined", payload.state},
                                                   {"all_gather", (w - 1) * payload.map},
                                                   {"tree", rounds * payload.map}};
      for (const Method& method : Methods()) {
        if (method.name == "auto") continue;  // One of the others.
        for (const ScanDirection direction : kDirections) {
          const Sent one = Measure(w, method, c, SequenceCut::kContiguous, direction);
          const Sent two = Measure(w, method, c, SequenceCut::kZigzag, direction);
          EXPECT_EQ(two.sum, 2 * one.sum) << method.Name() << " over " << w;
          EXPECT_LE(two.most, 2 * one.most) << method.Name() << " over " << w;
          if (method.name == "all_gather") {
            EXPECT_EQ(two.most, 2 * one.most);
          }
          EXPECT_EQ(one.most, want.at(method.name)) << method.Name();
        }
      }
    }
  }
}

// Every rank fails or stalls once in the middle; the others end with a status that says why.
TEST(ScanFailuresTest, AFailureEndsAllRanks) {
  for (const Method& method : Methods()) {
    for (int failing = 0; failing < 4; ++failing) {
      const absl::Time begin = absl::Now();
      const Status status = testing::RunOn(
          {TestWorld::kLocal, 4}, {}, [&](Device& device, Communicator& world) -> Status {
            const Case c = Cases()[0];
            const ScanSlots slots = c.Slots(device, SequenceCut::kZigzag, 4);
            const AffineScan scan(method.Plan(), world);
            const auto pending = scan.Start(slots, c.OwnMaps(device, slots, world.rank()),
                                            c.Initial(device), ScanDirection::kForward);
            if (world.rank() == failing) {
              throw Failure(absl::ResourceExhaustedError("no memory left"));
            }
            pending->Join();
            return world.Barrier({.purpose = "end"})->Wait();
          });
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << method.Name() << status;
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("no memory left"));
      EXPECT_LT(absl::Now() - begin, absl::Seconds(5)) << method.Name();
    }
  }
}

TEST(ScanFailuresTest, ARankThatStallsIsNamed) {
  CommOptions options;
  options.deadline = absl::Milliseconds(100);
  for (const Method& method : Methods()) {
    const Status status = testing::RunOn(
        {TestWorld::kLocal, 3}, options, [&](Device& device, Communicator& world) -> Status {
          const Case c = Cases()[0];
          const ScanSlots slots = c.Slots(device, SequenceCut::kContiguous, 3);
          if (world.rank() == 1) {
            absl::SleepFor(absl::Milliseconds(200));
            return absl::OkStatus();
          }
          AffineScan(method.Plan(), world)
              .Start(slots, c.OwnMaps(device, slots, world.rank()), {}, ScanDirection::kForward)
              ->Join();
          return absl::OkStatus();
        });
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << method.Name() << status;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("scan states"));
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("rank 1")) << status;
  }
}

// Messages that are dropped, doubled or swapped do not go unseen: each one matters to some state.
TEST(ScanMutationTest, EveryMessageMatters) {
  using testing::CallMutator;
  using testing::CallSite;
  for (const Method& method : Methods()) {
    for (const SequenceCut cut : kCuts) {
      const auto run = [&](CallMutator& mutator) {
        // As RunScan, but counts what is off.
        std::atomic<int> wrong = 0;
        testing::OnRanks({TestWorld::kLocal, 4}, {}, [&](Device& device, Communicator& world) {
          const auto axis = mutator.Wrap(world);
          const Case c = {Family::kVector, 2, true, 0};
          const ScanSlots slots = c.Slots(device, cut, 4);
          const PendingScan::States states =
              AffineScan(method.Plan(), *axis)
                  .Start(slots, c.OwnMaps(device, slots, world.rank()), c.Initial(device),
                         ScanDirection::kForward)
                  ->Join();
          const auto want =
              c.Fold(device, static_cast<int>(slots.owners.size()), ScanDirection::kForward);
          size_t own = 0;
          for (size_t slot = 0; slot < slots.owners.size(); ++slot) {
            if (slots.owners[slot] != world.rank()) continue;
            const Values got = states.entering[own++].ToVector();
            for (size_t i = 0; i < got.size(); ++i)
              wrong += std::abs(got[i] - want[slot][i]) > 1e-9;
          }
          return absl::OkStatus();
        });
        return wrong.load();
      };
      CallMutator recorder;
      EXPECT_EQ(run(recorder), 0);
      const auto calls = recorder.TakeCalls();
      EXPECT_FALSE(calls.empty());
      for (const auto& [site, count] : calls) {
        for (const testing::Mutation mutation : testing::MutationsOf(site)) {
          CallMutator mutator(site, mutation);
          EXPECT_GT(run(mutator), 0)
              << method.Name() << ": " << site.ToString() << " " << MutationName(mutation);
        }
      }
    }
  }
}

TEST(ScanPlanTest, TheModelChooses) {
  const auto choose = [](int ranks, int64_t state, int64_t transition, const char* latency_us,
                         const char* rate) {
    const auto plan =
        PlanScan("auto", {{"latency_us", latency_us}, {"gigabytes_per_second", rate}});
    return ToString(
        ResolveScan(*plan, SlotOwners(SequenceCut::kContiguous, ranks), {state, transition, 128}));
  };
  // Latency alone counts: one message.
  EXPECT_EQ(choose(8, 1 << 10, 1 << 10, "100", "100"), "all_gather");
  // Rate alone counts: the least bytes, in many blocks.
  EXPECT_EQ(choose(8, 1 << 24, 1 << 24, "1", "1"), "pipelined in 128 blocks");
  // Two ranks: a state to the next one is all there is; of equal ones the first.
  EXPECT_EQ(choose(2, 1 << 20, 0, "20", "5"), "ring");
  // Many ranks of a middling state.
  EXPECT_EQ(choose(256, 1 << 16, 0, "100", "1"), "tree");
}

TEST(ScanPlanTest, BadParametersAreRefusedByName) {
  const auto message = [](const StatusOr<ScanPlan>& plan) {
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(plan.status().message());
  };
  EXPECT_THAT(message(PlanScan("rign", {})), ::testing::HasSubstr("'ring'"));
  EXPECT_THAT(message(PlanScan("ring", {{"blocks", "2"}})), ::testing::HasSubstr("blocks"));
  EXPECT_THAT(message(PlanScan("pipelined", {{"blocks", "0"}})), ::testing::HasSubstr("blocks"));
  EXPECT_THAT(message(PlanScan("auto", {{"latency_us", "-1"}})),
              ::testing::HasSubstr("latency_us"));
}

// A reset line is free of what enters, NaN too.
TEST(AffineMapTest, ResetsStopNaN) {
  testing::OnRanks({TestWorld::kSelf, 1}, {}, [](Device& device, Communicator&) {
    const Tensor state = RandomTensor(device, {2, 1, 2, 2}, 1);
    const Tensor nan = Tensor::Full(device, {2, 1, 2, 2}, DType::kF64, NAN);
    const Values out = Apply({TransitionKind::kIdentity, {}, state, {1, 0}}, nan).ToVector();
    const Values want = state.ToVector();
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[i], want[i]);
    for (int i = 4; i < 8; ++i) EXPECT_TRUE(std::isnan(out[i]));
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
