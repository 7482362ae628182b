// A rank that fails in the middle of a recurrence, and messages that go wrong: both are noticed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

#include "absl/time/clock.h"

#include "core/device/kernel.h"
#include "core/ops/devices.h"
#include "tests/parallel/sequence/recurrence_ranks.h"
#include "tests/testing/mutating_communicator.h"

namespace trireme {
namespace {

using testing::RecurrenceCase;
using testing::RecurrenceProblem;
using testing::RecurrenceValues;
using testing::SampleSet;
using testing::ScanSetup;
using testing::TestWorld;

constexpr TestWorld kFourRanks = {TestWorld::kLocal, 4};

RecurrenceCase LowRank() {
  RecurrenceCase c;
  c.rule = StateRule::kLowRank;
  c.decay = testing::Decay::kChannel;
  c.h = c.g = 1;
  c.key = 3;
  c.value = 5;
  return c;
}

// Kernels are plain functions, and ranks threads.
thread_local int launches_left = -1;  // Until one fails; negative: none does.

const KernelTable& Plain() {
  static const KernelTable table = MakeCpuDevice()->kernels();
  return table;
}

const KernelTable& Failing() {
  static const KernelTable table = [] {
    KernelTable failing = Plain();
#define KERNEL(Name)                                                                         \
  failing.Name = [](Device& device, const Name##Args& args) {                                \
    if (launches_left-- == 0) throw Failure(absl::ResourceExhaustedError("no memory left")); \
    Plain().Name(device, args);                                                              \
  };
#include "core/ops/kernels.def"
#undef KERNEL
    return failing;
  }();
  return table;
}

// At one of its kernels, wherever that is, forward or backward.
TEST(RecurrenceFailuresTest, ARankThatFailsEndsAllRanks) {
  const auto device = MakeCpuDevice();
  const RecurrenceProblem problem(*device, LowRank(), {"", {{40}, {31}}});
  for (const ScanSetup& setup : testing::ScanSetups()) {
    bool failed = true;
    for (int launches = 0; failed; launches += 7) {
      const absl::Time begin = absl::Now();
      const Status status =
          testing::RunOn(kFourRanks, {}, [&](Device&, Communicator& world) -> Status {
            CpuDevice device({}, Failing());
            const AffineScan scan(*PlanScan(setup.scan, setup.params), world);
            launches_left = world.rank() == 2 ? launches : -1;
            problem.OnThisRank(device, scan, setup.cut);
            return world.Barrier({.purpose = "end"})->Wait();
          });
      failed = !status.ok();
      EXPECT_EQ(failed, status.code() == absl::StatusCode::kResourceExhausted)
          << setup.Name() << " after " << launches << ": " << status;
      EXPECT_LT(absl::Now() - begin, absl::Seconds(5)) << setup.Name() << " after " << launches;
      if (!failed) {
        EXPECT_GT(launches, 40) << setup.Name();
      }
    }
  }
}

TEST(RecurrenceMutationTest, EveryMessageMatters) {
  using testing::CallMutator;
  const auto device = MakeCpuDevice();
  const RecurrenceProblem problem(*device, LowRank(), {"", {{64}, {5, 70}}});
  const RecurrenceValues whole = problem.OnOneRank();
  for (const ScanSetup& setup : testing::ScanSetups()) {
    const auto run = [&](CallMutator& mutator) {
      std::atomic<int> wrong = 0;
      testing::OnRanks(kFourRanks, {}, [&](Device& device, Communicator& world) {
        const auto axis = mutator.Wrap(world);
        const AffineScan scan(*PlanScan(setup.scan, setup.params), *axis);
        const RecurrenceValues got = problem.OnThisRank(device, scan, setup.cut);
        const RecurrenceValues want = problem.PartOf(whole, world, setup.cut);
        for (size_t i = 0; i < got.size(); ++i) {
          for (size_t j = 0; j < got[i].size(); ++j) {
            wrong += !(std::abs(got[i][j] - want[i][j]) < 1e-9);
          }
        }
        return absl::OkStatus();
      });
      return wrong.load();
    };
    CallMutator recorder;
    EXPECT_EQ(run(recorder), 0) << setup.Name();
    const auto calls = recorder.TakeCalls();
    EXPECT_GE(calls.size(), 2u) << setup.Name();  // Forward and backward.
    for (const auto& [site, count] : calls) {
      for (const testing::Mutation mutation : testing::MutationsOf(site)) {
        CallMutator mutator(site, mutation);
        EXPECT_GT(run(mutator), 0)
            << setup.Name() << ": " << site.ToString() << " " << MutationName(mutation);
      }
    }
  }
}

}  // namespace
}  // namespace trireme
