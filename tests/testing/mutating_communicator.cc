#include "tests/testing/mutating_communicator.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme::testing {
namespace {

// Does something to the result of a call when it is there.
class SpoiltWork : public Work {
 public:
  SpoiltWork(std::unique_ptr<Work> work, std::function<void()> spoil)
      : work_(std::move(work)), spoil_(std::move(spoil)) {}

  Status Wait() override {
    RETURN_IF_ERROR(work_->Wait());
    Spoil();
    return absl::OkStatus();
  }
  void Join(Queue& queue) override {
    work_->Join(queue);
    Spoil();
  }

 private:
  void Spoil() {
    if (spoil_ != nullptr) std::exchange(spoil_, nullptr)();
  }

  const std::unique_ptr<Work> work_;
  std::function<void()> spoil_;
};

class DoneWork : public Work {
 public:
  Status Wait() override { return absl::OkStatus(); }
  void Join(Queue&) override {}
};

std::unique_ptr<Work> Spoilt(std::unique_ptr<Work> work, std::function<void()> spoil) {
  return std::make_unique<SpoiltWork>(std::move(work), std::move(spoil));
}

Tensor Flat(const Tensor& x) { return x.Detach().WithShape({x.numel()}); }
Tensor CopyOf(const Tensor& x) { return x.CopyTo(x.dtype()); }

void Double(const Tensor& x) {
  if (x.dtype() != DType::kU8) return x.Detach().Accumulate(CopyOf(x));
  uint8_t* const bytes = Flat(x).data<uint8_t>();
  for (int64_t i = 0; i < x.numel(); ++i) bytes[i] += bytes[i];
}

// Element i comes from i + by, around the end.
void Rotate(const Tensor& x, int64_t by) {
  const Tensor flat = Flat(x), before = CopyOf(flat);
  const int64_t n = flat.numel();
  if (n == 0) return;
  by = std::max<int64_t>(1, by) % n;
  flat.View1D(0, n - by).CopyFrom(before.View1D(by, n - by));
  flat.View1D(n - by, by).CopyFrom(before.View1D(0, by));
}

// The parts of `x`, of these sizes or equal ones.
struct Parts {
  Tensor flat;
  std::vector<int64_t> sizes;

  Parts(const Tensor& x, absl::Span<const int64_t> counts, int num_ranks)
      : flat(Flat(x)), sizes(counts.begin(), counts.end()) {
    if (sizes.empty()) sizes.assign(num_ranks, flat.numel() / num_ranks);
  }
  Tensor Of(int rank) const {
    return flat.View1D(std::accumulate(sizes.begin(), sizes.begin() + rank, int64_t{0}),
                       sizes[rank]);
  }
  void ZeroAllBut(int rank) const {
    for (int other = 0; other < static_cast<int>(sizes.size()); ++other) {
      if (other != rank) Of(other).Fill(0);
    }
  }
};

class MutatingCommunicator : public Communicator {
 public:
  MutatingCommunicator(CallMutator& mutator, Communicator& inner)
      : mutator_(mutator), inner_(inner) {}
  MutatingCommunicator(CallMutator& mutator, std::unique_ptr<Communicator> inner)
      : mutator_(mutator), inner_(*inner), owned_(std::move(inner)) {}

  int rank() const override { return inner_.rank(); }
  const std::string& axis() const override { return inner_.axis(); }
  absl::Span<const int> world_ranks() const override { return inner_.world_ranks(); }

  std::unique_ptr<Work> AllReduce(const Tensor& tensor, const Call& call) override {
    const auto mutation = Called(Verb::kAllReduce, call);
    if (mutation == Mutation::kUndone) {
      const Tensor before = CopyOf(tensor);
      return Spoilt(inner_.AllReduce(tensor, call), [=] { tensor.Detach().CopyFrom(before); });
    }
    if (mutation == Mutation::kDoubled) {
      return Spoilt(inner_.AllReduce(tensor, call), [=] { Double(tensor); });
    }
    Call changed = call;
    if (mutation == Mutation::kSummed) changed.op = ReduceOp::kSum;
    return inner_.AllReduce(tensor, changed);
  }

  std::unique_ptr<Work> AllGather(const Tensor& input, const Tensor& output,
                                  const Call& call) override {
    const auto mutation = Called(Verb::kAllGather, call);
    std::unique_ptr<Work> work = inner_.AllGather(input, output, call);
    if (!mutation.has_value()) return work;
    return Spoilt(std::move(work), [this, mutation, parts = Parts(output, call.counts, size())] {
      mutation == Mutation::kUndone ? parts.ZeroAllBut(rank()) : Rotate(parts.flat, parts.sizes[0]);
    });
  }

  std::unique_ptr<Work> ReduceScatter(const Tensor& input, const Tensor& output,
                                      const Call& call) override {
    const auto mutation = Called(Verb::kReduceScatter, call);
    if (!mutation.has_value()) return inner_.ReduceScatter(input, output, call);
    const Tensor own = CopyOf(Parts(input, call.counts, size()).Of(rank()));
    return Spoilt(inner_.ReduceScatter(input, output, call), [=] {
      mutation == Mutation::kUndone ? Flat(output).CopyFrom(own) : Double(output);
    });
  }

  std::unique_ptr<Work> AllToAll(const Tensor& input, absl::Span<const int64_t> send_counts,
                                 const Tensor& output, absl::Span<const int64_t> recv_counts,
                                 const Call& call) override {
    const auto mutation = Called(Verb::kAllToAll, call);
    std::unique_ptr<Work> work = inner_.AllToAll(input, send_counts, output, recv_counts, call);
    if (!mutation.has_value()) return work;
    return Spoilt(std::move(work), [this, mutation, parts = Parts(output, recv_counts, size())] {
      mutation == Mutation::kUndone ? parts.ZeroAllBut(rank()) : Rotate(parts.flat, parts.sizes[0]);
    });
  }

  std::unique_ptr<Work> Broadcast(const Tensor& tensor, int root, const Call& call) override {
    const auto mutation = Called(Verb::kBroadcast, call);
    if (!mutation.has_value()) return inner_.Broadcast(tensor, root, call);
    const Tensor before = CopyOf(tensor);
    return Spoilt(inner_.Broadcast(tensor, root, call), [=] { tensor.Detach().CopyFrom(before); });
  }

  std::unique_ptr<Work> Send(const Tensor& tensor, int peer, const Call& call) override {
    if (!Called(Verb::kSend, call).has_value()) return inner_.Send(tensor, peer, call);
    const Tensor nothing = CopyOf(tensor);
    nothing.Fill(0);
    return inner_.Send(nothing, peer, call);
  }

  std::unique_ptr<Work> Recv(const Tensor& tensor, int peer, const Call& call) override {
    const auto mutation = Called(Verb::kRecv, call);
    std::unique_ptr<Work> work = inner_.Recv(tensor, peer, call);
    if (!mutation.has_value()) return work;
    return Spoilt(std::move(work), [=] {
      mutation == Mutation::kDoubled ? Double(tensor) : tensor.Detach().Fill(0);
    });
  }

  std::unique_ptr<Work> Barrier(const Call& call) override {
    if (Called(Verb::kBarrier, call).has_value()) return std::make_unique<DoneWork>();
    return inner_.Barrier(call);
  }

  StatusOr<std::unique_ptr<Communicator>> Split(int64_t color, int64_t key,
                                                absl::string_view axis) override {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, inner_.Split(color, key, axis));
    if (part == nullptr) return part;
    return std::make_unique<MutatingCommunicator>(mutator_, std::move(part));
  }

  void Abort(const Status& status) override { inner_.Abort(status); }
  Status aborted() const override { return inner_.aborted(); }
  const Journal& journal() const override { return inner_.journal(); }

 private:
  std::optional<Mutation> Called(Verb verb, const Call& call) {
    if (size() == 1) return std::nullopt;
    return mutator_.Called({verb, call.purpose, axis(), call.op});
  }

  CallMutator& mutator_;
  Communicator& inner_;
  const std::unique_ptr<Communicator> owned_;
};

}  // namespace

std::string CallSite::ToString() const {
  return absl::StrCat(VerbName(verb), " '", purpose, "' over ", axis);
}

const char* MutationName(Mutation mutation) {
  constexpr const char* kNames[] = {"undone", "doubled", "summed", "rotated"};
  return kNames[static_cast<int>(mutation)];
}

std::vector<Mutation> MutationsOf(const CallSite& site) {
  switch (site.verb) {
    case Verb::kAllReduce:
      return {Mutation::kUndone,
              site.op == ReduceOp::kSum ? Mutation::kDoubled : Mutation::kSummed};
    case Verb::kReduceScatter:
    case Verb::kRecv:
      return {Mutation::kUndone, Mutation::kDoubled};
    case Verb::kAllGather:
    case Verb::kAllToAll:
      return {Mutation::kUndone, Mutation::kRotated};
    default:
      return {Mutation::kUndone};
  }
}

std::unique_ptr<Communicator> CallMutator::Wrap(Communicator& world) {
  return std::make_unique<MutatingCommunicator>(*this, world);
}

std::map<CallSite, int64_t> CallMutator::TakeCalls() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(calls_, {});
}

std::optional<Mutation> CallMutator::Called(const CallSite& site) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++calls_[site];
  return site == site_ ? std::optional<Mutation>(mutation_) : std::nullopt;
}

}  // namespace trireme::testing
