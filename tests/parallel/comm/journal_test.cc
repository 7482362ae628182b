#include "parallel/comm/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/comm/communicator.h"
#include "parallel/comm/schedule.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using testing::OnRanks;

TEST(JournalTest, KeepsTheNewestRecordsAndAllBytes) {
  Journal journal(3);
  for (int i = 0; i < 5; ++i) {
    const int64_t ticket = journal.Add(
        {.verb = Verb::kSend, .purpose = "x", .axis = "replica", .number = i, .peer = 1});
    journal.SetState(ticket, CallState::kRunning);
    journal.CountBytes(ticket, "replica", "x", 10);
    if (i != 4) journal.SetState(ticket, CallState::kDone);
  }
  const std::vector<CallRecord> records = journal.Records();
  ASSERT_EQ(records.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(records[i].number, i + 2);
    EXPECT_EQ(records[i].sent_bytes, 10);
    EXPECT_LE(records[i].posted, records[i].started);
    EXPECT_LE(records[i].started, records[i].ended);
  }
  EXPECT_EQ(records[1].state, CallState::kDone);
  EXPECT_EQ(records[2].state, CallState::kRunning);
  EXPECT_EQ(records[2].ended, absl::InfiniteFuture());
  EXPECT_EQ(journal.SentBytes("replica"), 50);
  EXPECT_EQ(journal.SentBytes("tensor"), 0);
  EXPECT_THAT(journal.ToString(), HasSubstr("send #4 x, replica peer 1: running, 10 bytes"));
  // States of forgotten records change nothing.
  journal.SetState(0, CallState::kFailed);
  EXPECT_EQ(journal.Records()[0].state, CallState::kDone);
}

class TrafficTest : public ::testing::TestWithParam<testing::TestWorld> {};
INSTANTIATE_TEST_SUITE_P(Worlds, TrafficTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

TEST_P(TrafficTest, BytesEqualTheClosedForms) {
  const int64_t p = GetParam().size;
  CommOptions options;
  options.block_bytes = 4 * 128 * p;
  OnRanks(GetParam(), options, [&](Device& device, Communicator& world) {
    const int rank = world.rank();
    ASSIGN_OR_RETURN(const auto group, world.Split(0, 0, "group"));
    const auto x = [&](int64_t n) { return Tensor::Zeros(device, {n}, DType::kF32); };
    Queue& queue = device.compute();
    const int64_t n = 1024 * p;  // Whole blocks in whole slices.
    group->AllReduce(x(100), {"small"})->Join(queue);
    group->AllReduce(x(n), {"large"})->Join(queue);
    std::vector<int64_t> counts(p);
    for (int r = 0; r < p; ++r) counts[r] = 300 * r;
    const int64_t total = 300 * p * (p - 1) / 2;
    group->AllGather(x(counts[rank]), x(total), {.purpose = "gather", .counts = counts})
        ->Join(queue);
    group->ReduceScatter(x(total), x(counts[rank]), {.purpose = "scatter", .counts = counts})
        ->Join(queue);
    group->AllToAll(x(n), {}, x(n), {}, {"exchange"})->Join(queue);
    group->Broadcast(x(100), 0, {"small_broadcast"})->Join(queue);
    group->Broadcast(x(n * (p - 1) + 300), 0, {"large_broadcast"})->Join(queue);
    auto send = group->Send(x(7), (rank + 1) % p, {"ring"});
    group->Recv(x(7), (rank + p - 1) % p, {"ring"})->Join(queue);
    send->Join(queue);
    RETURN_IF_ERROR(group->Barrier({"barrier"})->Wait());

    auto sent = group->journal().SentBytes();
    const auto bytes = [&](const char* purpose) { return sent[{"group", purpose}]; };
    EXPECT_EQ(bytes("small"), 4 * 100 * (p - 1));
    EXPECT_EQ(bytes("large"), 4 * 2 * n * (p - 1) / p);
    EXPECT_EQ(bytes("gather"), 4 * counts[rank] * (p - 1));
    EXPECT_EQ(bytes("scatter"), 4 * (total - counts[rank]));
    EXPECT_EQ(bytes("exchange"), 4 * n * (p - 1) / p);
    EXPECT_EQ(bytes("small_broadcast"), rank == 0 ? 4 * 100 * (p - 1) : 0);
    const int64_t m = 4 * (n * (p - 1) + 300);
    const int64_t slice = p == 1 ? 0 : PartBegin(m, p - 1, rank) - PartBegin(m, p - 1, rank - 1);
    EXPECT_EQ(bytes("large_broadcast"), p == 1 ? 0 : rank == 0 ? m : slice * (p - 2));
    EXPECT_EQ(bytes("ring"), 4 * 7);
    EXPECT_EQ(bytes("barrier"), 0);

    const std::vector<CallRecord> records = group->journal().Records();
    EXPECT_EQ(records.size(), 11u);
    int64_t recorded = 0;
    for (const CallRecord& record : records) {
      EXPECT_EQ(record.state, CallState::kDone);
      if (record.axis == "group") recorded += record.sent_bytes;
    }
    EXPECT_EQ(recorded, group->journal().SentBytes("group"));
    EXPECT_EQ(records[1].purpose, "small");
    EXPECT_EQ(records[2].number, 2);
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
