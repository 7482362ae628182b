// What is under way while kernels of linear attention run, and that they wait for no other rank: a
// device whose kernels look at the journal and tell the test.
#include <gtest/gtest.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/device/kernel.h"
#include "core/ops/devices.h"
#include "core/ops/recurrence.h"
#include "tests/parallel/sequence/recurrence_ranks.h"
#include "tests/testing/gradient_check.h"

namespace trireme {
namespace {

using testing::RandomTensor;
using testing::SampleSet;
using testing::ScanSetup;

constexpr int kRanks = 4;

// A launch, and what this rank had posted of scans by then, in each direction.
struct Launched {
  enum Kernel { kStates, kTransition, kOutput, kBackward } kernel;
  int64_t forward = 0, reverse = 0;
};

// Kernels are plain functions, and ranks threads.
thread_local const Communicator* watched = nullptr;
thread_local std::vector<Launched>* launches = nullptr;
std::atomic<int> ended[4];  // Launches of each kernel that all ranks have behind them.

const KernelTable& Plain() {
  static const KernelTable table = MakeCpuDevice()->kernels();
  return table;
}

template <typename Args>
void Watch(Launched::Kernel kernel, void (*plain)(Device&, const Args&), Device& device,
           const Args& args) {
  Launched launched = {kernel};
  for (const CallRecord& record : watched->journal().Records()) {
    launched.forward += record.purpose == "scan states";
    launched.reverse += record.purpose == "scan state gradients";
  }
  launches->push_back(launched);
  plain(device, args);
  ++ended[kernel];
}

const KernelTable& Watching() {
  static const KernelTable table = [] {
    KernelTable watching = Plain();
    watching.RecurrenceStates = [](Device& device, const RecurrenceStatesArgs& args) {
      Watch(Launched::kStates, Plain().RecurrenceStates, device, args);
    };
    watching.RecurrenceTransition = [](Device& device, const RecurrenceTransitionArgs& args) {
      Watch(Launched::kTransition, Plain().RecurrenceTransition, device, args);
    };
    watching.RecurrenceOutput = [](Device& device, const RecurrenceOutputArgs& args) {
      Watch(Launched::kOutput, Plain().RecurrenceOutput, device, args);
    };
    watching.RecurrenceBackward = [](Device& device, const RecurrenceBackwardArgs& args) {
      Watch(Launched::kBackward, Plain().RecurrenceBackward, device, args);
    };
    return watching;
  }();
  return table;
}

// False when it takes more than seconds: somebody waits for this rank.
bool WaitFor(Launched::Kernel kernel, int count) {
  const absl::Time deadline = absl::Now() + absl::Seconds(5);
  while (ended[kernel] < count && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  return ended[kernel] >= count;
}

// The rank of the first slot begins when the others have all their outputs, and in backward the
// rank of the last slot when the others have all states: until then nobody has heard anything.
TEST(RecurrenceOverlapTest, NothingWaitsBeforeLocalWorkIsDone) {
  const SampleSet set = {"", {{90}, {60}}};
  for (const ScanSetup& setup : testing::ScanSetups()) {
    SCOPED_TRACE(setup.Name());
    for (std::atomic<int>& count : ended) count = 0;
    testing::OnRanks({testing::TestWorld::kLocal, kRanks}, {}, [&](Device&, Communicator& world) {
      CpuDevice device({}, Watching());
      std::vector<Launched> seen;
      watched = &world;
      launches = &seen;
      const std::vector<int> owners = SlotOwners(setup.cut, kRanks);
      const TokenLayout layout = set.LayoutOf(setup.cut, kRanks, world.rank());
      const int64_t n = NumTokens(layout.segments);
      RecurrenceInputs x;
      x.rule = StateRule::kDelta;
      x.q = RandomTensor(device, {n, 2, 4}, 1);
      x.k = RandomTensor(device, {n, 2, 4}, 2, 0.3).set_requires_grad();
      x.v = RandomTensor(device, {n, 2, 4}, 3).set_requires_grad();
      x.beta = Tensor::Full(device, {n, 2}, DType::kF64, 0.5);

      const bool first = world.rank() == owners.front();
      if (first) {
        EXPECT_TRUE(WaitFor(Launched::kOutput, kRanks - 1)) << "forward";
      }
      const AffineScan scan(*PlanScan(setup.scan, setup.params), world);
      const RecurrenceOutputs outputs = SequenceRecurrence(
          x, PlanRecurrence(layout, setup.cut, world.rank(), false), scan, Tensor());
      const size_t num_forward = seen.size();
      const bool last = world.rank() == owners.back();
      // States of the forward pass, and of the others' backward passes.
      if (last) {
        EXPECT_TRUE(WaitFor(Launched::kStates, kRanks + kRanks - 1)) << "backward";
      }
      Sum(outputs.out).Backward();

      // Every call of a scan that can be posted is, before outputs and states are computed.
      for (size_t i = 0; i < seen.size(); ++i) {
        const bool forward = i < num_forward;
        const Launched& launch = seen[i];
        if (launch.kernel == Launched::kOutput) {
          EXPECT_GT(launch.forward, 0) << world.rank();
        }
        if (launch.kernel == Launched::kStates && forward) {
          EXPECT_EQ(launch.forward, 0);
        }
        if (launch.kernel == Launched::kStates && !forward) {
          EXPECT_GT(launch.reverse, 0);
        }
      }
      EXPECT_EQ(seen.back().kernel, Launched::kBackward);
      return absl::OkStatus();
    });
  }
}

}  // namespace
}  // namespace trireme
