// A rank that fails or stalls in the middle of an exchange: the others end with a status, soon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"

#include "core/autograd/backward.h"
#include "core/ops/ops.h"
#include "tests/parallel/sequence/kv_case.h"

namespace trireme {
namespace {

using testing::Cases;
using testing::KvCase;
using testing::Method;
using testing::Methods;
using testing::Place;
using testing::Values;

constexpr testing::TestWorld kFourRanks = {testing::TestWorld::kLocal, 4};

// What rank 2 does instead of its forward pass, or of its backward pass.
enum class Phase { kForward, kBackward };
Status RunWithout(const KvCase& c, const Method& method, const CommOptions& options, Phase phase,
                  const std::function<Status()>& instead) {
  const Values inputs = c.Inputs(DType::kF32);
  return RunOnAxis(
      kFourRanks, options, method,
      [&](Device& device, const KvExchange& exchange, const Place& place, Communicator&) -> Status {
        auto x = c.TensorsOf(device, DType::kF32, inputs, place);
        for (int i = 0; i < 3; ++i) x[i].set_requires_grad();
        if (place.rank == 2 && phase == Phase::kForward) return instead();
        const Tensor y = c.Forward(x, place, exchange);
        if (place.rank == 2) return instead();
        Sum(y).Backward();
        return absl::OkStatus();
      });
}

TEST(KvFailuresTest, AFailureEndsAllRanks) {
  const KvCase c = Cases().front();
  for (const Method& method : Methods(kFourRanks.size, c)) {
    for (const Phase phase : {Phase::kForward, Phase::kBackward}) {
      const absl::Time begin = absl::Now();
      const Status status = RunWithout(c, method, {}, phase, []() -> Status {
        throw Failure(absl::ResourceExhaustedError("no memory left"));
      });
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << method.Name();
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("no memory left"));
      EXPECT_LT(absl::Now() - begin, absl::Seconds(5)) << method.Name();
    }
  }
}

TEST(KvFailuresTest, ARankThatStallsIsNamed) {
  const KvCase c = Cases().front();
  CommOptions options;
  options.deadline = absl::Milliseconds(200);
  for (const Method& method : Methods(kFourRanks.size, c)) {
    for (const Phase phase : {Phase::kForward, Phase::kBackward}) {
      const absl::Time begin = absl::Now();
      const Status status = RunWithout(c, method, options, phase, [] {
        absl::SleepFor(absl::Milliseconds(400));
        return absl::OkStatus();
      });
      EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << method.Name() << status;
      // The purpose that the others wait for.
      const char* purpose = method.method == "all_gather" ? "gather keys and values"
                            : method.method == "ring"     ? "ring keys and values"
                                                          : "ulysses";
      if (method.method != "ulysses_ring") {
        EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(purpose));
      }
      EXPECT_LT(absl::Now() - begin, absl::Seconds(5)) << method.Name();
    }
  }
}

}  // namespace
}  // namespace trireme
