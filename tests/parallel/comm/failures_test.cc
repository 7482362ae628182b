// Ranks that do not come, that make another call, that fail: who is told what, and when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "parallel/comm/communicator.h"
#include "tests/testing/ranks.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using testing::OnRanks;
using testing::RunOn;

constexpr absl::Duration kDeadline = absl::Milliseconds(400);

CommOptions ShortDeadline(bool progress_thread = true) {
  CommOptions options;
  options.deadline = kDeadline;
  options.progress_thread = progress_thread;
  return options;
}

class FailuresTest : public ::testing::TestWithParam<testing::TestWorld> {
 protected:
  int size() const { return GetParam().size; }
};
INSTANTIATE_TEST_SUITE_P(Worlds, FailuresTest, ::testing::ValuesIn(testing::TestWorlds()),
                         testing::WorldName);

// A verb as the ranks that come call it.
struct VerbCase {
  const char* name;
  std::function<std::unique_ptr<Work>(Device&, Communicator&)> call;
  // Whether a rank other than `missing` needs it.
  std::function<bool(int rank)> notices = [](int) { return true; };
};

std::vector<VerbCase> VerbCases(int size) {
  const int missing = size - 1;
  const auto floats = [](Device& device, int64_t n) {
    return Tensor::Zeros(device, {n}, DType::kF32);
  };
  const auto is_root = [](int rank) { return rank == 0; };
  std::vector<VerbCase> cases;
  // Below and above the size that travels inside a frame.
  for (const int64_t n : {16, 4096}) {
    cases.push_back({"all_reduce", [=](Device& d, Communicator& c) {
                       return c.AllReduce(floats(d, n), {"test"});
                     }});
    cases.push_back({"all_gather", [=](Device& d, Communicator& c) {
                       return c.AllGather(floats(d, n), floats(d, n * size), {"test"});
                     }});
    cases.push_back({"reduce_scatter", [=](Device& d, Communicator& c) {
                       return c.ReduceScatter(floats(d, n * size), floats(d, n), {"test"});
                     }});
    cases.push_back({"all_to_all", [=](Device& d, Communicator& c) {
                       return c.AllToAll(floats(d, n * size), {}, floats(d, n * size), {},
                                         {"test"});
                     }});
    cases.push_back({"broadcast", [=](Device& d, Communicator& c) {
                       return c.Broadcast(floats(d, n), missing, {"test"});
                     }});
    cases.push_back(
        {"broadcast",
         [=](Device& d, Communicator& c) { return c.Broadcast(floats(d, n), 0, {"test"}); },
         n == 16 ? is_root : std::function<bool(int)>([](int) { return true; })});
    cases.push_back({"send", [=](Device& d, Communicator& c) {
                       return c.Send(floats(d, n), missing, {"test"});
                     }});
    cases.push_back({"recv", [=](Device& d, Communicator& c) {
                       return c.Recv(floats(d, n), missing, {"test"});
                     }});
  }
  cases.push_back({"barrier", [](Device&, Communicator& c) { return c.Barrier({"test"}); }});
  return cases;
}

TEST_P(FailuresTest, ARankThatNeverCallsIsNamedByTheOthers) {
  if (size() == 1) return;
  const int missing = size() - 1;
  for (const bool progress_thread : {true, false}) {
    OnRanks(GetParam(), ShortDeadline(progress_thread), [&](Device& device, Communicator& world) {
      // One group for each case: all wait at the same time.
      const std::vector<VerbCase> cases = VerbCases(size());
      std::vector<std::unique_ptr<Communicator>> groups;
      for (size_t i = 0; i < cases.size(); ++i) {
        ASSIGN_OR_RETURN(groups.emplace_back(), world.Split(0, 0, absl::StrCat("group", i)));
      }
      if (world.rank() == missing) return absl::OkStatus();
      const absl::Time begin = absl::Now();
      std::vector<std::unique_ptr<Work>> works;
      for (size_t i = 0; i < cases.size(); ++i) works.push_back(cases[i].call(device, *groups[i]));
      for (size_t i = 0; i < cases.size(); ++i) {
        const Status status = works[i]->Wait();
        if (!cases[i].notices(world.rank())) {
          EXPECT_TRUE(status.ok()) << status;
          continue;
        }
        EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded)
            << cases[i].name << ": " << status;
        const std::string message(status.message());
        EXPECT_THAT(message, HasSubstr(absl::StrCat("[", cases[i].name, " #1 test")));
        EXPECT_THAT(message,
                    HasSubstr(absl::StrCat("group", i, " rank ", world.rank(), "/", size())));
        EXPECT_THAT(message, ::testing::EndsWith(absl::StrCat("waited 400ms for rank ", missing)));
      }
      EXPECT_LT(absl::Now() - begin, kDeadline + absl::Seconds(1));
      // The call is over; so is the group, but no other.
      EXPECT_EQ(groups[0]->Barrier({"later"})->Wait().code(), absl::StatusCode::kDeadlineExceeded);
      return absl::OkStatus();
    });
  }
}

TEST_P(FailuresTest, ARankThatNeverSplitsIsNamed) {
  if (size() == 1) return;
  OnRanks(GetParam(), ShortDeadline(), [&](Device&, Communicator& world) {
    if (world.rank() == 0) return absl::OkStatus();
    const absl::Time begin = absl::Now();
    const Status status = world.Split(0, 0, "pair").status();
    EXPECT_THAT(std::string(status.message()), ::testing::EndsWith("waited 400ms for rank 0"));
    EXPECT_LT(absl::Now() - begin, kDeadline + absl::Seconds(1));
    return absl::OkStatus();
  });
}

TEST_P(FailuresTest, OtherGroupsOutliveAFailure) {
  if (size() < 3) return;
  OnRanks(GetParam(), ShortDeadline(), [&](Device& device, Communicator& world) {
    const bool comes = world.rank() != 1;
    ASSIGN_OR_RETURN(const auto present, world.Split(comes ? 0 : -1, 0, "present"));
    if (!comes) return absl::OkStatus();
    const Status status = world.Barrier({"all"})->Wait();
    EXPECT_THAT(std::string(status.message()), ::testing::EndsWith("for rank 1"));
    const Tensor x = Tensor::Full(device, {1000}, DType::kF32, 1);
    present->AllReduce(x, {"sum"})->Join(device.compute());
    EXPECT_EQ(x.ToVector()[999], size() - 1);
    // In the group, world rank 2 is rank 1.
    if (world.rank() == 2) return absl::OkStatus();
    const Status missing = present->Barrier({"some"})->Wait();
    EXPECT_THAT(std::string(missing.message()), HasSubstr("for rank 1 (world rank 2)"));
    return absl::OkStatus();
  });
}

// A slow transfer is no failure while it moves: the deadline is for each step.
TEST_P(FailuresTest, TheDeadlineIsForEachStep) {
  OnRanks(GetParam(), ShortDeadline(), [&](Device& device, Communicator& world) {
    const Tensor x = Tensor::Full(device, {1}, DType::kF32, 1);
    for (int round = 0; round < 5; ++round) {
      if (world.rank() == 0) absl::SleepFor(kDeadline / 4);
      world.AllReduce(x, {"slow"})->Join(device.compute());
    }
    return absl::OkStatus();
  });
}

TEST_P(FailuresTest, CallsThatDifferAreBothNamed) {
  if (size() == 1) return;
  const auto x = [](Device& device, int64_t n, DType dtype = DType::kF32) {
    return Tensor::Zeros(device, {n}, dtype);
  };
  const int64_t n = 24 * size();
  const std::vector<int64_t> uneven = [&] {
    std::vector<int64_t> counts(size(), 24);
    ++counts.front();
    --counts.back();
    return counts;
  }();
  struct Pair {
    const char* text;
    std::function<std::unique_ptr<Work>(Device&, Communicator&)> call;
  };
  // Rank 0 makes the first call, the others make one of the rest.
  const std::vector<Pair> calls = {
      {"all_reduce sum f32[",
       [&](Device& d, Communicator& c) { return c.AllReduce(x(d, n), {"a"}); }},
      {"all_reduce sum f32[",
       [&](Device& d, Communicator& c) { return c.AllReduce(x(d, 5000), {"a"}); }},
      {"all_reduce sum f64[",
       [&](Device& d, Communicator& c) { return c.AllReduce(x(d, n, DType::kF64), {"a"}); }},
      {"all_reduce max f32[",
       [&](Device& d, Communicator& c) {
         return c.AllReduce(x(d, n), {.purpose = "a", .op = ReduceOp::kMax});
       }},
      {"] b'", [&](Device& d, Communicator& c) { return c.AllReduce(x(d, n), {"b"}); }},
      {"all_gather f32[",
       [&](Device& d, Communicator& c) { return c.AllGather(x(d, 24), x(d, n), {"a"}); }},
      {"reduce_scatter sum f32[",
       [&](Device& d, Communicator& c) { return c.ReduceScatter(x(d, n), x(d, 24), {"a"}); }},
      {"reduce_scatter sum f32[",
       [&](Device& d, Communicator& c) {
         return c.ReduceScatter(x(d, n), x(d, uneven[c.rank()]),
                                {.purpose = "a", .counts = uneven});
       }},
      {"barrier a", [&](Device&, Communicator& c) { return c.Barrier({"a"}); }},
  };
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    for (size_t i = 1; i < calls.size(); ++i) {
      ASSIGN_OR_RETURN(const auto group, world.Split(0, 0, "group"));
      const Pair& own = calls[world.rank() == 0 ? 0 : i];
      const Pair& other = calls[world.rank() == 0 ? i : 0];
      const Status status = own.call(device, *group)->Wait();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
      const std::string message(status.message());
      const std::vector<std::string> sides = absl::StrSplit(message, "where this rank");
      if (sides.size() != 2) return absl::InternalError(message);
      EXPECT_THAT(sides[0], HasSubstr(other.text));
      EXPECT_THAT(sides[1], HasSubstr(own.text));
      EXPECT_THAT(message, HasSubstr(world.rank() == 0 ? "] rank " : "] rank 0 called"));
    }
    return absl::OkStatus();
  });
}

TEST_P(FailuresTest, AReceiveOfAnotherSizeIsRefused) {
  if (size() == 1) return;
  OnRanks(GetParam(), ShortDeadline(), [&](Device& device, Communicator& world) {
    if (world.rank() == 0) {
      return world.Send(Tensor::Zeros(device, {10}, DType::kF32), 1, {"x"})->Wait();
    }
    if (world.rank() > 1) return absl::OkStatus();
    const Tensor y = Tensor::Full(device, {9}, DType::kF32, 7);
    const Status status = world.Recv(y, 0, {"x"})->Wait();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 called 'send f32[10] x' as #1, "
                                                         "sending 40 bytes"));
    EXPECT_EQ(y.ToVector(), std::vector<double>(9, 7));
    return absl::OkStatus();
  });
}

// Under MPI, Abort ends the processes: see the test parallel_comm_abort.
TEST_P(FailuresTest, AnErrorOnOneRankWakesAllOthers) {
  if (GetParam().kind == testing::TestWorld::kMpi) return;
  for (const bool throws : {false, true}) {
    const absl::Time begin = absl::Now();
    const Status status = RunOn(GetParam(), {}, [&](Device& device, Communicator& world) -> Status {
      ASSIGN_OR_RETURN(const auto group, world.Split(0, 0, "group"));
      ASSIGN_OR_RETURN(const auto alone, world.Split(world.rank(), 0, "alone"));
      if (world.rank() == 0) {
        absl::SleepFor(absl::Milliseconds(20));
        if (throws) throw Failure(absl::InternalError("boom"));
        return absl::InternalError("boom");
      }
      const Tensor x = Tensor::Zeros(device, {5000}, DType::kF32);
      auto send = world.Send(x, 0, {"activations"});
      const Status first = group->AllReduce(x, {"gradients"})->Wait();
      EXPECT_EQ(first.code(), absl::StatusCode::kAborted) << first;
      EXPECT_THAT(std::string(first.message()), HasSubstr("ended by rank 0: boom"));
      EXPECT_EQ(send->Wait().code(), absl::StatusCode::kAborted);
      EXPECT_EQ(world.Barrier({"later"})->Wait().code(), absl::StatusCode::kAborted);
      EXPECT_EQ(alone->Barrier({"later"})->Wait().code(), absl::StatusCode::kAborted);
      return first;
    });
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), ::testing::EndsWith("boom"));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  }
}

// A rank that fails elsewhere leaves its calls behind: that neither waits nor leaves its tensors in
// use.
TEST_P(FailuresTest, CallsUnderWayMayBeGivenUp) {
  if (size() == 1) return;
  OnRanks(GetParam(), {}, [&](Device& device, Communicator& world) {
    ASSIGN_OR_RETURN(const auto group, world.Split(0, 0, "group"));
    if (world.rank() == 0) {
      const absl::Time begin = absl::Now();
      for (const VerbCase& verb : VerbCases(size())) auto dropped = verb.call(device, *group);
      EXPECT_EQ(device.stats().current_total_bytes, 0);
      EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
      const Status status = group->Barrier({"later"})->Wait();
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    }
    return world.Barrier({"end"})->Wait();
  });
}

// For the test parallel_comm_abort, which alone runs on three processes: the job has to end, and
// nobody to come back.
TEST_P(FailuresTest, AbortEndsTheJob) {
  if (GetParam().kind != testing::TestWorld::kMpi || size() != 3) return;
  OnRanks(GetParam(), {}, [&](Device&, Communicator& world) {
    RETURN_IF_ERROR(world.Barrier({"begin"})->Wait());
    if (world.rank() == 1) {
      LOG(ERROR) << "leaves";
      world.Abort(absl::InternalError("boom"));
    }
    const Status status = world.Barrier({"end"})->Wait();
    LOG(ERROR) << "came back: " << status.ToString();
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace trireme
