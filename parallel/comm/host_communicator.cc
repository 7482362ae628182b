#include "parallel/comm/host_communicator.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/rng.h"

namespace trireme {
namespace {

class HostWork : public Work {
 public:
  HostWork(std::shared_ptr<Engine> engine, std::shared_ptr<Operation> op,
           std::vector<Tensor> tensors)
      : engine_(std::move(engine)), op_(std::move(op)), tensors_(std::move(tensors)) {}
  ~HostWork() override {
    if (!joined_) engine_->Drop(op_);
  }

  Status Wait() override {
    const Status status = engine_->Wait(*op_);
    joined_ = true;
    tensors_.clear();
    return status;
  }
  void Join(Queue&) override { ThrowIfError(Wait()); }

 private:
  const std::shared_ptr<Engine> engine_;
  const std::shared_ptr<Operation> op_;
  std::vector<Tensor> tensors_;
  bool joined_ = false;
};

char* Raw(const Tensor& tensor) {
  CHECK(tensor.is_contiguous()) << "communication of a strided tensor of shape " << tensor.shape();
  CHECK(tensor.device().name() == "cpu")
      << "a host transport was given a tensor on " << tensor.device().name();
  return static_cast<char*>(tensor.raw());
}

int64_t ByteSize(const Tensor& tensor) { return tensor.numel() * DTypeSize(tensor.dtype()); }

const char* ReduceOpName(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kMin:
      return "min";
  }
  return "?";
}

// " f32[100] gradients"
std::string Describe(DType dtype, int64_t count, const Call& call) {
  return absl::StrCat(" ", DTypeName(dtype), "[", count, "] ", call.purpose);
}

template <typename T>
absl::string_view BytesOf(absl::Span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

bool Overlap(const Tensor& a, const Tensor& b) {
  const char* begin_a = Raw(a);
  const char* begin_b = Raw(b);
  return begin_a < begin_b + ByteSize(b) && begin_b < begin_a + ByteSize(a);
}

// A part may lie in the whole at its own place only.
void CheckPart(const Tensor& part, const Tensor& whole, int64_t offset, const Call& call) {
  const char* own = Raw(whole) + offset * DTypeSize(whole.dtype());
  CHECK(Raw(part) == own || !Overlap(part, whole))
      << "a part overlaps the whole at another place [" << call.purpose << "]";
  CHECK(part.dtype() == whole.dtype()) << DTypeName(part.dtype()) << " and "
                                       << DTypeName(whole.dtype()) << " [" << call.purpose << "]";
}

std::vector<int64_t> InBytes(std::vector<int64_t> counts, DType dtype) {
  for (int64_t& count : counts) count *= DTypeSize(dtype);
  return counts;
}

int64_t Before(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

}  // namespace

std::unique_ptr<Communicator> HostCommunicator::World(std::unique_ptr<Transport> transport,
                                                      const CommOptions& options) {
  auto group = std::make_shared<Group>();
  group->axis = "world";
  group->rank = transport->rank();
  group->world_ranks.resize(transport->size());
  std::iota(group->world_ranks.begin(), group->world_ranks.end(), 0);
  auto engine = std::make_shared<Engine>(std::move(transport), options);
  return std::unique_ptr<Communicator>(new HostCommunicator(std::move(engine), std::move(group)));
}

std::vector<int64_t> HostCommunicator::PartCounts(absl::Span<const int64_t> counts,
                                                  int64_t total) const {
  if (counts.empty()) {
    CHECK_EQ(total % size(), 0) << "elements in equal parts for " << size() << " ranks";
    return std::vector<int64_t>(size(), total / size());
  }
  CHECK_EQ(static_cast<int>(counts.size()), size()) << "one count for each rank";
  CHECK(std::all_of(counts.begin(), counts.end(), [](int64_t count) { return count >= 0; }));
  CHECK_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), total)
      << "the sum of the counts";
  return {counts.begin(), counts.end()};
}

Reduction HostCommunicator::ReductionOf(const Tensor& tensor, const Call& call) const {
  Reduction reduction = {tensor.dtype(),
                         call.op,
                         {call.order.begin(), call.order.end()},
                         {call.weights.begin(), call.weights.end()}};
  std::vector<int> ranks(size());
  std::iota(ranks.begin(), ranks.end(), 0);
  if (reduction.order.empty()) reduction.order = ranks;
  CHECK(std::is_permutation(reduction.order.begin(), reduction.order.end(), ranks.begin(),
                            ranks.end()))
      << "the order of summation is not a permutation of the ranks [" << call.purpose << "]";
  CHECK(call.weights.empty() ||
        (static_cast<int>(call.weights.size()) == size() && IsFloating(tensor.dtype())))
      << call.weights.size() << " weights for " << size() << " ranks of "
      << DTypeName(tensor.dtype()) << " [" << call.purpose << "]";
  return reduction;
}

std::shared_ptr<Operation> HostCommunicator::NewOperation(Verb verb, const Call& call,
                                                          std::string text) const {
  auto op = std::make_shared<Operation>();
  op->group = group_;
  op->verb = verb;
  op->purpose = call.purpose;
  op->text = std::move(text);
  op->signature = StableHash(absl::StrCat(op->text, "\n", BytesOf(call.order), "\n",
                                          BytesOf(call.weights), "\n", BytesOf(call.counts)));
  return op;
}

std::unique_ptr<Work> HostCommunicator::Start(std::shared_ptr<Operation> op,
                                              std::vector<Tensor> tensors) const {
  // Without their graphs: the last reference may be dropped by the engine's thread.
  for (Tensor& tensor : tensors) tensor = tensor.Detach();
  op->tensors.insert(op->tensors.end(), tensors.begin(), tensors.end());
  engine_->Submit(op);
  return std::make_unique<HostWork>(engine_, std::move(op), std::move(tensors));
}

std::unique_ptr<Work> HostCommunicator::AllReduce(const Tensor& tensor, const Call& call) {
  const Reduction reduction = ReductionOf(tensor, call);
  auto op = NewOperation(Verb::kAllReduce, call,
                         absl::StrCat("all_reduce ", ReduceOpName(call.op),
                                      Describe(tensor.dtype(), tensor.numel(), call)));
  const int64_t block_bytes = engine_->options().block_bytes;
  const int64_t bytes = ReduceScratchBytes(place(), tensor.numel(), tensor.dtype(), block_bytes);
  const Tensor scratch =
      Tensor::Empty(tensor.device(), {bytes}, DType::kU8, MemoryKind::kCommunication, call.purpose);
  op->schedule =
      AllReduceSchedule(place(), Raw(tensor), tensor.numel(), reduction, block_bytes, Raw(scratch));
  op->tensors.push_back(scratch);
  return Start(std::move(op), {tensor});
}

std::unique_ptr<Work> HostCommunicator::ReduceScatter(const Tensor& input, const Tensor& output,
                                                      const Call& call) {
  const Reduction reduction = ReductionOf(input, call);
  const std::vector<int64_t> counts = PartCounts(call.counts, input.numel());
  CHECK_EQ(output.numel(), counts[rank()])
      << "elements of this rank's part [" << call.purpose << "]";
  CheckPart(output, input, Before(counts, rank()), call);
  auto op = NewOperation(Verb::kReduceScatter, call,
                         absl::StrCat("reduce_scatter ", ReduceOpName(call.op),
                                      Describe(input.dtype(), input.numel(), call)));
  const int64_t block_bytes = engine_->options().block_bytes;
  const int64_t bytes = ReduceScratchBytes(place(), counts[rank()], input.dtype(), block_bytes);
  const Tensor scratch =
      Tensor::Empty(input.device(), {bytes}, DType::kU8, MemoryKind::kCommunication, call.purpose);
  op->schedule = ReduceScatterSchedule(place(), Raw(input), Raw(output), counts, reduction,
                                       block_bytes, Raw(scratch));
  op->tensors.push_back(scratch);
  return Start(std::move(op), {input, output});
}

std::unique_ptr<Work> HostCommunicator::AllGather(const Tensor& input, const Tensor& output,
                                                  const Call& call) {
  const std::vector<int64_t> counts = PartCounts(call.counts, output.numel());
  CHECK_EQ(input.numel(), counts[rank()])
      << "elements of this rank's part [" << call.purpose << "]";
  CheckPart(input, output, Before(counts, rank()), call);
  auto op =
      NewOperation(Verb::kAllGather, call,
                   absl::StrCat("all_gather", Describe(output.dtype(), output.numel(), call)));
  op->schedule =
      AllGatherSchedule(place(), Raw(input), Raw(output), InBytes(counts, input.dtype()));
  return Start(std::move(op), {input, output});
}

std::unique_ptr<Work> HostCommunicator::AllToAll(const Tensor& input,
                                                 absl::Span<const int64_t> send_counts,
                                                 const Tensor& output,
                                                 absl::Span<const int64_t> recv_counts,
                                                 const Call& call) {
  const std::vector<int64_t> sends = PartCounts(send_counts, input.numel());
  const std::vector<int64_t> recvs = PartCounts(recv_counts, output.numel());
  CHECK(input.dtype() == output.dtype() && !Overlap(input, output))
      << "all_to_all needs two tensors of one type that do not overlap [" << call.purpose << "]";
  CHECK_EQ(sends[rank()], recvs[rank()])
      << "elements from this rank to itself [" << call.purpose << "]";
  auto op = NewOperation(Verb::kAllToAll, call,
                         absl::StrCat("all_to_all ", DTypeName(input.dtype()), " ", call.purpose));
  op->schedule = AllToAllSchedule(place(), Raw(input), InBytes(sends, input.dtype()), Raw(output),
                                  InBytes(recvs, input.dtype()));
  return Start(std::move(op), {input, output});
}

std::unique_ptr<Work> HostCommunicator::Broadcast(const Tensor& tensor, int root,
                                                  const Call& call) {
  CHECK(root >= 0 && root < size()) << "root " << root << " of " << size() << " ranks";
  auto op = NewOperation(
      Verb::kBroadcast, call,
      absl::StrCat("broadcast from ", root, Describe(tensor.dtype(), tensor.numel(), call)));
  op->schedule = BroadcastSchedule(place(), Raw(tensor), ByteSize(tensor), root);
  return Start(std::move(op), {tensor});
}

std::unique_ptr<Work> HostCommunicator::Send(const Tensor& tensor, int peer, const Call& call) {
  return PointToPoint(Verb::kSend, tensor, peer, call);
}

std::unique_ptr<Work> HostCommunicator::Recv(const Tensor& tensor, int peer, const Call& call) {
  return PointToPoint(Verb::kRecv, tensor, peer, call);
}

std::unique_ptr<Work> HostCommunicator::PointToPoint(Verb verb, const Tensor& tensor, int peer,
                                                     const Call& call) const {
  CHECK(peer >= 0 && peer < size()) << "peer " << peer << " of " << size() << " ranks";
  auto op = NewOperation(verb, call,
                         absl::StrCat("send", Describe(tensor.dtype(), tensor.numel(), call)));
  op->peer = peer;
  const Direction direction = verb == Verb::kSend ? Direction::kSend : Direction::kRecv;
  op->schedule = {
      {.messages = {{peer, direction, Raw(tensor), ByteSize(tensor), true}}, .then = nullptr}};
  return Start(std::move(op), {tensor});
}

std::unique_ptr<Work> HostCommunicator::Barrier(const Call& call) {
  auto op = NewOperation(Verb::kBarrier, call, absl::StrCat("barrier ", call.purpose));
  op->schedule = BarrierSchedule(place());
  return Start(std::move(op), {});
}

StatusOr<std::unique_ptr<Communicator>> HostCommunicator::Split(int64_t color, int64_t key,
                                                                absl::string_view axis) {
  struct Choice {
    int64_t color, key, next_context;
  };
  std::vector<Choice> choices(size());
  choices[rank()] = {color, key, engine_->NextContext()};
  auto op = NewOperation(Verb::kSplit, {"split"}, absl::StrCat("split ", axis));
  op->schedule = AllGatherSchedule(place(), reinterpret_cast<char*>(&choices[rank()]),
                                   reinterpret_cast<char*>(choices.data()),
                                   std::vector<int64_t>(size(), sizeof(Choice)));
  engine_->Submit(op);
  RETURN_IF_ERROR(engine_->Wait(*op));

  // Above what any rank here ever used, so that groups with a rank in common differ.
  int64_t first_context = 0;
  std::map<int64_t, std::vector<int>> members;
  for (int r = 0; r < size(); ++r) {
    first_context = std::max(first_context, choices[r].next_context);
    if (choices[r].color >= 0) members[choices[r].color].push_back(r);
  }
  RETURN_IF_ERROR(engine_->ReserveContexts(first_context, members.size()));
  if (color < 0) return nullptr;

  std::vector<int>& ranks = members[color];
  std::stable_sort(ranks.begin(), ranks.end(),
                   [&](int a, int b) { return choices[a].key < choices[b].key; });
  auto group = std::make_shared<Group>();
  group->axis = std::string(axis);
  group->context = first_context + std::distance(members.begin(), members.find(color));
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (ranks[i] == rank()) group->rank = static_cast<int>(i);
    group->world_ranks.push_back(group_->world_ranks[ranks[i]]);
  }
  return std::unique_ptr<Communicator>(new HostCommunicator(engine_, std::move(group)));
}

}  // namespace trireme
