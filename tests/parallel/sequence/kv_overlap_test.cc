// When kernels run and what is under way at that moment: a device whose attention kernels look at
// the journal.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/device/kernel.h"
#include "core/ops/attention.h"
#include "core/ops/devices.h"
#include "tests/parallel/sequence/kv_case.h"

namespace trireme {
namespace {

using testing::KvCase;
using testing::Place;
using testing::Values;

// The calls that a rank had posted when a kernel was launched.
struct Launched {
  int64_t block_sends = 0, block_recvs = 0, gradient_sends = 0, gradient_recvs = 0;
};

// Kernels are plain functions, and ranks threads.
thread_local const Communicator* watched = nullptr;
thread_local std::vector<Launched>* launches = nullptr;

void Note() {
  Launched launched;
  for (const CallRecord& record : watched->journal().Records()) {
    const bool gradient = record.purpose == "ring key-value gradients";
    if (!gradient && record.purpose.rfind("ring keys and values", 0) != 0) continue;
    const bool send = record.verb == Verb::kSend;
    ++(gradient ? send ? launched.gradient_sends : launched.gradient_recvs
       : send   ? launched.block_sends
                : launched.block_recvs);
  }
  launches->push_back(launched);
}

const KernelTable& Plain() {
  static const KernelTable table = MakeCpuDevice()->kernels();
  return table;
}

const KernelTable& Watching() {
  static const KernelTable table = [] {
    KernelTable watching = Plain();
    watching.Attention = [](Device& device, const AttentionArgs& args) {
      Note();
      Plain().Attention(device, args);
    };
    watching.AttentionBackward = [](Device& device, const AttentionBackwardArgs& args) {
      Note();
      Plain().AttentionBackward(device, args);
    };
    return watching;
  }();
  return table;
}

constexpr testing::TestWorld kFourRanks = {testing::TestWorld::kLocal, 4};

// Calls fn(place, what each launch of the forward and the backward pass saw).
void Watch(const KvCase& c, SequenceCut cut,
           const std::function<void(const Place&, const std::vector<Launched>&)>& fn) {
  const Values inputs = c.Inputs(DType::kF32);
  OnAxis(kFourRanks, {"ring", {}, cut},
         [&](Device&, const KvExchange& exchange, const Place& place, Communicator& world) {
           CpuDevice device({}, Watching());
           std::vector<Launched> seen;
           watched = &world;
           launches = &seen;
           c.Run(device, DType::kF32, inputs, place, exchange);
           fn(place, seen);
           return absl::OkStatus();
         });
}

// While a block is computed the next one is under way, and so are the gradients of the one before.
TEST(KvOverlapTest, TransfersRunWhileBlocksAreComputed) {
  Watch({"", {{64}}, 2, 1, 4, 4}, SequenceCut::kZigzag,
        [](const Place& place, const std::vector<Launched>& seen) {
          ASSERT_EQ(seen.size(), 8u) << "rank " << place.rank;
          for (int64_t step = 0; step < 4; ++step) {
            const int64_t hops = std::min<int64_t>(step + 1, 3);
            EXPECT_EQ(seen[step].block_sends, hops);
            EXPECT_EQ(seen[step].block_recvs, hops);
            const Launched& backward = seen[4 + step];
            EXPECT_EQ(backward.block_sends, 3 + hops);
            EXPECT_EQ(backward.block_recvs, 3 + hops);
            EXPECT_EQ(backward.gradient_sends, std::max<int64_t>(0, step - 1));
            EXPECT_EQ(backward.gradient_recvs, std::max<int64_t>(0, step - 1));
          }
        });
}

// A step of a block that no query sees computes nothing, forward or backward.
TEST(KvOverlapTest, UnseenBlocksAreNotComputed) {
  Watch({"", {{64}}, 2, 1, 4, 4}, SequenceCut::kContiguous,
        [](const Place& place, const std::vector<Launched>& seen) {
          EXPECT_EQ(static_cast<int>(seen.size()), 2 * (place.rank + 1));
        });
  Watch({"", {{64}}, 2, 1, 4, 4, /*window=*/5}, SequenceCut::kContiguous,
        [](const Place& place, const std::vector<Launched>& seen) {
          EXPECT_EQ(seen.size(), place.rank == 0 ? 2u : 4u);
        });
  // Every rank has documents of its own.
  Watch({"", {{16, 16, 16, 16}}, 2, 1, 4, 4}, SequenceCut::kContiguous,
        [](const Place&, const std::vector<Launched>& seen) { EXPECT_EQ(seen.size(), 2u); });
}

}  // namespace
}  // namespace trireme
