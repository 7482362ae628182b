// Schedules as data: for every size of the communicator, what one rank sends another receives, in
// the same order and phase pattern, and first messages are framed.
#include "parallel/comm/schedule.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

namespace trireme {
namespace {

// Messages between two ranks, in order: bytes and whether framed.
using Stream = std::vector<std::pair<int64_t, bool>>;

void ExpectMatched(const std::vector<Schedule>& schedules, const std::string& what) {
  const int size = static_cast<int>(schedules.size());
  std::map<std::pair<int, int>, Stream> sends, recvs;
  for (int rank = 0; rank < size; ++rank) {
    for (const Phase& phase : schedules[rank]) {
      std::map<std::pair<int, Direction>, int> framed, all;
      for (const Message& message : phase.messages) {
        const bool is_send = message.direction == Direction::kSend;
        auto& stream = is_send ? sends[{rank, message.peer}] : recvs[{message.peer, rank}];
        EXPECT_EQ(message.framed, stream.empty()) << what;
        EXPECT_TRUE(message.framed || message.bytes > 0) << what;
        EXPECT_NE(message.peer, rank) << what;
        stream.push_back({message.bytes, message.framed});
        ++all[{message.peer, message.direction}];
        framed[{message.peer, message.direction}] += message.framed;
      }
      // What follows a frame in the same phase could overtake the pieces that the frame announces.
      for (const auto& [key, count] : framed) EXPECT_TRUE(count == 0 || all[key] == 1) << what;
    }
  }
  EXPECT_EQ(sends, recvs) << what;
}

TEST(ScheduleTest, SendsAndReceivesMatch) {
  std::vector<char> memory(1 << 20), scratch(1 << 20);
  char* const data = memory.data();
  char* const other = data + (1 << 19);
  for (int size = 1; size <= 9; ++size) {
    const auto expect_matched = [&](const std::string& what,
                                    const std::function<Schedule(Place)>& make) {
      std::vector<Schedule> schedules;
      for (int rank = 0; rank < size; ++rank) schedules.push_back(make({rank, size}));
      ExpectMatched(schedules, what + " on " + std::to_string(size));
    };
    Reduction reduction = {DType::kF32, ReduceOp::kSum, std::vector<int>(size), {}};
    std::iota(reduction.order.begin(), reduction.order.end(), 0);
    for (const int64_t n : {0, 1, 256, 257, 1000, 4099}) {
      for (const int64_t block : {1, 512, 4096, 1 << 20}) {
        expect_matched("all_reduce " + std::to_string(n), [&](Place place) {
          EXPECT_LE(ReduceScratchBytes(place, n, DType::kF32, block), 1 << 20);
          return AllReduceSchedule(place, data, n, reduction, block, scratch.data());
        });
        std::vector<int64_t> counts(size);
        for (int r = 0; r < size; ++r) counts[r] = r % 3 == 1 ? 0 : n / (r + 1);
        expect_matched("reduce_scatter " + std::to_string(n), [&](Place place) {
          return ReduceScatterSchedule(place, data, other, counts, reduction, block,
                                       scratch.data());
        });
        expect_matched("all_gather " + std::to_string(n),
                       [&](Place place) { return AllGatherSchedule(place, data, other, counts); });
      }
      expect_matched("all_to_all " + std::to_string(n), [&](Place place) {
        std::vector<int64_t> sends(size), recvs(size);
        for (int r = 0; r < size; ++r) {
          sends[r] = (place.rank * 2 + r) % 3 * n;
          recvs[r] = (r * 2 + place.rank) % 3 * n;
        }
        return AllToAllSchedule(place, data, sends, other, recvs);
      });
      for (int root = 0; root < size; ++root) {
        expect_matched("broadcast " + std::to_string(n),
                       [&](Place place) { return BroadcastSchedule(place, data, n, root); });
      }
    }
    expect_matched("barrier", BarrierSchedule);
  }
}

TEST(ScheduleTest, PartsTileTheWhole) {
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{10}, int64_t{1} << 60}) {
    for (int parts = 1; parts <= 9; ++parts) {
      EXPECT_EQ(PartBegin(count, parts, 0), 0);
      EXPECT_EQ(PartBegin(count, parts, parts), count);
      for (int part = 0; part < parts; ++part) {
        const int64_t size = PartBegin(count, parts, part + 1) - PartBegin(count, parts, part);
        EXPECT_TRUE(size == count / parts || size == count / parts + 1);
      }
    }
  }
}

// A block's gather travels with the next block's exchange: one phase more than blocks.
TEST(ScheduleTest, AllReducePipelinesItsBlocks) {
  std::vector<char> memory(1 << 16), scratch(1 << 16);
  const Reduction reduction = {DType::kF32, ReduceOp::kSum, {0, 1}, {}};
  EXPECT_EQ(AllReduceSchedule({0, 2}, memory.data(), 4096, reduction, 4096, scratch.data()).size(),
            5u);
  EXPECT_EQ(ReduceScratchBytes({0, 2}, 4096, DType::kF32, 4096), 4 * (512 + 1));
}

}  // namespace
}  // namespace trireme
