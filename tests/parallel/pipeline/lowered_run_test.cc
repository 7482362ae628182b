// Lowered plans over a real communicator: ranks are threads, a send is done when its receive has
// started. Every value that a stage computes depends on all that it should have got.
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"

#include "core/ops/devices.h"
#include "parallel/comm/local.h"
#include "parallel/pipeline/lower.h"
#include "parallel/pipeline/verify.h"

namespace trireme {
namespace {

using Key = std::pair<int, int>;  // Stage and micro-batch.
using Values = std::map<Key, int64_t>;

int64_t ForwardOf(int stage, int64_t input) { return 3 * input + stage + 1; }
int64_t BackwardOf(int stage, int64_t gradient, int64_t output) {
  return 5 * gradient + 7 * output + stage;
}
// The gradient that the loss gives the last stage.
int64_t SeedOf(int micro_batch) { return 1000 + micro_batch; }

// Messages differ in length, so that one in the place of another is an error.
int64_t LengthOf(const LoweredAction& recv) {
  return 1 + (7 * recv.stage + 3 * recv.micro_batch + (recv.kind == LoweredKind::RecvGradient)) % 5;
}

class RankRun {
 public:
  // wait_for_sends: goes on only when a send is done, as the verifier has it.
  RankRun(Device& device, Communicator& world, const LoweredPlan& plan, bool wait_for_sends)
      : device_(device), world_(world), plan_(plan), wait_for_sends_(wait_for_sends) {}

  void Run() {
    for (const LoweredAction& action : plan_.programs[world_.rank()]) Step(action);
    for (const auto& work : sends_) ThrowIfError(work->Wait());
  }

  Values forward, backward;  // Of the stages of this rank.

 private:
  struct Arrival {
    Tensor tensor;
    std::unique_ptr<Work> work;
  };

  void Step(const LoweredAction& action) {
    const int s = action.stage, i = action.micro_batch;
    switch (action.kind) {
      case LoweredKind::F:
        made_ = forward[{s, i}] = ForwardOf(
            s, s == 0 ? i : Get(LoweredKind::RecvActivation, {s, i}, forward, {s - 1, i}));
        break;
      case LoweredKind::I:
      case LoweredKind::B: {
        const int64_t gradient = s == plan_.num_stages() - 1
                                     ? SeedOf(i)
                                     : Get(LoweredKind::RecvGradient, {s, i}, backward, {s + 1, i});
        made_ = backward[{s, i}] = BackwardOf(s, gradient, forward.at({s, i}));
        break;
      }
      case LoweredKind::W:
        break;
      case LoweredKind::RecvActivation:
      case LoweredKind::RecvGradient: {
        Arrival& arrival = arrivals_[{action.kind, {s, i}}];
        arrival.tensor = Tensor::Full(device_, {LengthOf(action)}, DType::kI64, -1);
        arrival.work = world_.Recv(arrival.tensor, action.peer, {.purpose = "lowered plan"});
        break;
      }
      case LoweredKind::SendActivation:
      case LoweredKind::SendGradient: {
        const int64_t length = LengthOf(RecvOf(plan_, action));
        const std::vector<double> values(length, made_);
        sends_.push_back(world_.Send(Tensor::FromVector(device_, {length}, values, DType::kI64),
                                     action.peer, {.purpose = "lowered plan"}));
        if (wait_for_sends_) ThrowIfError(sends_.back()->Wait());
        break;
      }
    }
  }

  // From another rank, or what this rank made before.
  int64_t Get(LoweredKind recv, Key key, const Values& own, Key before) {
    const auto it = arrivals_.find({recv, key});
    if (it == arrivals_.end()) return own.at(before);
    ThrowIfError(it->second.work->Wait());
    return static_cast<int64_t>(it->second.tensor.ToVector().back());
  }

  Device& device_;
  Communicator& world_;
  const LoweredPlan& plan_;
  const bool wait_for_sends_;
  int64_t made_ = 0;
  std::map<std::pair<LoweredKind, Key>, Arrival> arrivals_;
  std::vector<std::unique_ptr<Work>> sends_;
};

void CheckRun(const LoweredPlan& plan, bool wait_for_sends) {
  CommOptions options;
  options.deadline = absl::Seconds(20);
  std::vector<Values> forward(plan.num_ranks), backward(plan.num_ranks);
  const Status status = RunOnRanks(plan.num_ranks, options, [&](Communicator& world) {
    const std::unique_ptr<CpuDevice> device = MakeCpuDevice({.num_threads = 1});
    RankRun run(*device, world, plan, wait_for_sends);
    const Status failure = CatchFailure([&] { run.Run(); });
    forward[world.rank()] = run.forward;
    backward[world.rank()] = run.backward;
    return failure;
  });
  ASSERT_EQ(status, absl::OkStatus());
  for (int i = 0; i < plan.num_micro_batches; ++i) {
    int64_t output = i;
    std::vector<int64_t> outputs;
    for (int s = 0; s < plan.num_stages(); ++s) {
      output = ForwardOf(s, output);
      outputs.push_back(output);
      EXPECT_EQ(forward[plan.rank_of_stage[s]].at({s, i}), output);
    }
    int64_t gradient = SeedOf(i);
    for (int s = plan.num_stages(); s-- > 0;) {
      gradient = BackwardOf(s, gradient, outputs[s]);
      EXPECT_EQ(backward[plan.rank_of_stage[s]].at({s, i}), gradient);
    }
  }
}

TEST(LoweredRunTest, EveryScheduleDeliversEachMessageToItsAction) {
  for (const auto& entry : PipelineSchedules()) {
    for (const auto& [p, m] :
         {std::pair(1, 2), std::pair(2, 1), std::pair(2, 5), std::pair(3, 4), std::pair(4, 9)}) {
      SCOPED_TRACE(absl::StrCat(entry.name, " p=", p, " m=", m));
      const LoweredPlan plan = Lower(*MakePlan(entry.name, p, m));
      ASSERT_EQ(Verify(plan), absl::OkStatus());
      for (const bool wait_for_sends : {false, true}) CheckRun(plan, wait_for_sends);
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace trireme
