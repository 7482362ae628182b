#include "parallel/comm/nccl/nccl_communicator.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/base/log.h"
#include "core/device/cuda/cuda_status.h"
#include "core/device/kernel.h"
#include "parallel/comm/nccl/nccl_status.h"
#include "parallel/comm/nccl/nccl_types.h"
#include "parallel/comm/nccl/nccl_work.h"
#include "parallel/comm/schedule.h"
#include "parallel/comm/traffic.h"

namespace trireme {
namespace {

int64_t ByteSize(const Tensor& tensor) { return tensor.numel() * DTypeSize(tensor.dtype()); }

char* Raw(const Tensor& tensor, int64_t element = 0) {
  CHECK(tensor.is_contiguous()) << "communication of a strided tensor of shape " << tensor.shape();
  return static_cast<char*>(tensor.raw()) + element * DTypeSize(tensor.dtype());
}

// Whether NCCL's reduction is the interface's: sums of 16-bit types it rounds on the way.
bool SumsAlike(DType dtype, const Call& call) {
  if (!IsFloating(dtype)) return true;  // In any order.
  if (!call.order.empty() || !call.weights.empty()) return false;
  return call.op != ReduceOp::kSum || (dtype != DType::kBF16 && dtype != DType::kF16);
}

template <typename Fn>
Status FlatCatch(Fn&& fn) {
  Status status;
  status.Update(CatchFailure([&] { status = fn(); }));
  return status;
}

int64_t Before(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

bool AreEqual(const std::vector<int64_t>& counts) {
  return std::all_of(counts.begin(), counts.end(), [&](int64_t n) { return n == counts[0]; });
}

Status CopyOnDevice(char* dst, const char* src, int64_t bytes, cudaStream_t stream) {
  if (bytes == 0 || dst == src) return absl::OkStatus();
  CUDA_OR_RETURN(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream));
  return absl::OkStatus();
}

const KernelTable kNoKernels = {};

}  // namespace

NcclWorld::NcclWorld(CudaDevice& device, Communicator& control, const CommOptions& options)
    : device(device),
      control(control),
      options(options),
      host({.num_threads = 1}, kNoKernels),
      journal(options.journal_size),
      watchdog(device, control, journal, options.deadline) {}

StatusOr<std::unique_ptr<Communicator>> NcclCommunicator::Create(
    std::shared_ptr<NcclWorld> world, std::unique_ptr<Communicator> control) {
  std::unique_ptr<NcclCommunicator> made(
      new NcclCommunicator(std::move(world), std::move(control)));
  if (made->size() > 1) RETURN_IF_ERROR(made->Init());
  return made;
}

// Lanes of the collectives and between neighbours, around the ring. Each rank offers the ids of the
// lanes it begins; all make theirs in the same order, so nobody waits in a circle.
Status NcclCommunicator::Init() {
  const int next = (rank() + 1) % size(), previous = (rank() + size() - 1) % size();
  struct Offer {
    ncclUniqueId collectives, to_next, to_previous;
  };
  Offer mine;
  NCCL_OR_RETURN(ncclGetUniqueId(&mine.collectives));
  NCCL_OR_RETURN(ncclGetUniqueId(&mine.to_next));
  NCCL_OR_RETURN(ncclGetUniqueId(&mine.to_previous));
  const int64_t bytes = sizeof(Offer);
  const Tensor all = Tensor::Empty(world_->host, {size() * bytes}, DType::kU8,
                                   MemoryKind::kCommunication, "nccl ids");
  const Tensor own = all.View1D(rank() * bytes, bytes);
  std::memcpy(own.raw(), &mine, bytes);
  RETURN_IF_ERROR(control_->AllGather(own, all, {.purpose = "nccl ids"})->Wait());
  const auto* offers = reinterpret_cast<const Offer*>(all.raw());

  ASSIGN_OR_RETURN(collectives_, MakeLane(offers[0].collectives, rank(), size(),
                                          absl::StrCat("collectives along ", axis())));
  std::vector<std::pair<Edge, ncclUniqueId>> edges;
  for (int from = 0; from < size(); ++from) {
    const int after = (from + 1) % size(), before = (from + size() - 1) % size();
    edges.push_back({{from, after}, offers[from].to_next});
    if (before != after) edges.push_back({{from, before}, offers[from].to_previous});
  }
  std::sort(edges.begin(), edges.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [edge, id] : edges) {
    const bool sends = edge.first == rank(), receives = edge.second == rank();
    if (!sends && !receives) continue;
    CHECK((sends ? edge.second : edge.first) == next ||
          (sends ? edge.second : edge.first) == previous);
    ASSIGN_OR_RETURN(edges_[edge], MakeLane(id, sends ? 0 : 1, 2, EdgeName(edge)));
  }
  // The first message connects the two: now, rather than in the first step.
  std::vector<std::unique_ptr<Work>> works;
  const Tensor byte =
      Tensor::Zeros(world_->device, {2}, DType::kU8, MemoryKind::kCommunication, "nccl warm-up");
  for (const auto& [edge, lane] : edges_) {
    const bool sends = edge.first == rank();
    works.push_back(PointToPoint(sends ? Verb::kSend : Verb::kRecv, byte.View1D(sends, 1),
                                 sends ? edge.second : edge.first, {.purpose = "warm-up"}, 0));
  }
  for (const auto& work : works) RETURN_IF_ERROR(work->Wait());
  return absl::OkStatus();
}

StatusOr<std::shared_ptr<NcclLane>> NcclCommunicator::MakeLane(const ncclUniqueId& id, int rank,
                                                               int size, const std::string& name) {
  ASSIGN_OR_RETURN(
      std::shared_ptr<NcclLane> lane,
      NcclLane::Create(world_->device, id, rank, size, name, world_->options.deadline));
  world_->watchdog.Watch(lane);
  return lane;
}

std::string NcclCommunicator::EdgeName(Edge edge) const {
  return absl::StrCat("messages from rank ", edge.first, " to ", edge.second, " along ", axis());
}

StatusOr<NcclLane*> NcclCommunicator::LaneOf(Edge edge) {
  std::shared_ptr<NcclLane>& lane = edges_[edge];
  if (lane != nullptr) return lane.get();
  // Not neighbours: the sender tells the id over the control communicator.
  const bool sends = edge.first == rank();
  const Tensor id_bytes = Tensor::Empty(world_->host, {int64_t{sizeof(ncclUniqueId)}}, DType::kU8,
                                        MemoryKind::kCommunication, "nccl id");
  ncclUniqueId id;
  if (sends) {
    NCCL_OR_RETURN(ncclGetUniqueId(&id));
    std::memcpy(id_bytes.raw(), &id, sizeof(id));
    RETURN_IF_ERROR(control_->Send(id_bytes, edge.second, {.purpose = "nccl id"})->Wait());
  } else {
    RETURN_IF_ERROR(control_->Recv(id_bytes, edge.first, {.purpose = "nccl id"})->Wait());
    std::memcpy(&id, id_bytes.raw(), sizeof(id));
  }
  ASSIGN_OR_RETURN(lane, MakeLane(id, sends ? 0 : 1, 2, EdgeName(edge)));
  return lane.get();
}

std::vector<int64_t> NcclCommunicator::PartCounts(absl::Span<const int64_t> counts,
                                                  int64_t total) const {
  if (counts.empty()) {
    CHECK_EQ(total % size(), 0) << "elements in equal parts for " << size() << " ranks";
    return std::vector<int64_t>(size(), total / size());
  }
  CHECK_EQ(static_cast<int>(counts.size()), size()) << "one count for each rank";
  std::vector<int64_t> parts(counts.begin(), counts.end());
  CHECK_EQ(std::accumulate(parts.begin(), parts.end(), int64_t{0}), total)
      << "the sum of the counts";
  return parts;
}

std::unique_ptr<Work> NcclCommunicator::Start(StatusOr<NcclLane*> lane, Verb verb, const Call& call,
                                              std::vector<Tensor> tensors, int64_t sent_bytes,
                                              const Steps& steps, int peer) {
  std::string text = absl::StrCat(VerbName(verb), " '", call.purpose, "' along ", axis());
  CallRecord record;
  record.verb = verb;
  record.purpose = call.purpose;
  record.axis = axis();
  record.peer = peer;
  record.number = num_calls_[{verb, peer}]++;
  record.posted = absl::Now();
  const int64_t ticket = world_->journal.Add(std::move(record));
  std::erase_if(tensors, [](const Tensor& tensor) { return !tensor.defined(); });
  for (Tensor& tensor : tensors) tensor = tensor.Detach();
  Status status = lane.status();
  status.Update(world_->watchdog.failed());
  if (status.ok() && *lane == nullptr) {
    status = FlatCatch([&] { return steps(nullptr, world_->device.stream()); });
    world_->journal.SetState(ticket, status.ok() ? CallState::kDone : CallState::kFailed);
    return std::make_unique<DoneWork>(status);
  }
  std::shared_ptr<CudaEvent> done;
  status.Update(!status.ok() ? status : FlatCatch([&]() -> Status {
    world_->journal.SetState(ticket, CallState::kRunning);
    ASSIGN_OR_RETURN(done,
                     (*lane)->Run(text, ticket, [&] { return steps(*lane, (*lane)->stream()); }));
    return absl::OkStatus();
  }));
  if (!status.ok()) {
    world_->journal.SetState(ticket, CallState::kFailed);
    return std::make_unique<DoneWork>(status);
  }
  world_->journal.CountBytes(ticket, axis(), call.purpose, sent_bytes);
  return std::make_unique<NcclWork>(world_, std::move(text), std::move(done), std::move(tensors));
}

// Part r of `input` goes to rank r; the parts of `output` come in rank order, and lie apart from
// it.
Status NcclCommunicator::Exchange(NcclLane* lane, cudaStream_t stream, const Tensor& input,
                                  const std::vector<int64_t>& sends, const Tensor& output,
                                  const std::vector<int64_t>& recvs) const {
  RETURN_IF_ERROR(CopyOnDevice(Raw(output, Before(recvs, rank())),
                               Raw(input, Before(sends, rank())),
                               recvs[rank()] * DTypeSize(input.dtype()), stream));
  if (lane == nullptr) return absl::OkStatus();
  return lane->Group([&]() -> Status {
    const ncclDataType_t type = NcclType(input.dtype());
    int64_t send_at = 0, recv_at = 0;
    for (int r = 0; r < size(); ++r) {
      if (r != rank() && sends[r] > 0) {
        NCCL_OR_RETURN(ncclSend(Raw(input, send_at), sends[r], type, r, lane->comm(), stream));
      }
      if (r != rank() && recvs[r] > 0) {
        NCCL_OR_RETURN(ncclRecv(Raw(output, recv_at), recvs[r], type, r, lane->comm(), stream));
      }
      send_at += sends[r];
      recv_at += recvs[r];
    }
    return absl::OkStatus();
  });
}

// This rank's part, at its place in `whole`, goes to all others.
Status NcclCommunicator::GatherParts(NcclLane* lane, cudaStream_t stream, const Tensor& whole,
                                     const std::vector<int64_t>& counts) const {
  if (lane == nullptr) return absl::OkStatus();
  return lane->Group([&]() -> Status {
    const ncclDataType_t type = NcclType(whole.dtype());
    const char* own = Raw(whole, Before(counts, rank()));
    int64_t at = 0;
    for (int r = 0; r < size(); ++r) {
      if (r != rank() && counts[rank()] > 0) {
        NCCL_OR_RETURN(ncclSend(own, counts[rank()], type, r, lane->comm(), stream));
      }
      if (r != rank() && counts[r] > 0) {
        NCCL_OR_RETURN(ncclRecv(Raw(whole, at), counts[r], type, r, lane->comm(), stream));
      }
      at += counts[r];
    }
    return absl::OkStatus();
  });
}

NcclCommunicator::OrderedSum NcclCommunicator::PrepareSum(const Tensor& input, int64_t own_count,
                                                          const Call& call) const {
  CHECK(call.op == ReduceOp::kSum)
      << "only sums have an order and weights [" << call.purpose << "]";
  OrderedSum sum;
  sum.order.assign(call.order.begin(), call.order.end());
  if (sum.order.empty()) {
    sum.order.resize(size());
    std::iota(sum.order.begin(), sum.order.end(), 0);
  }
  sum.weights.assign(call.weights.begin(), call.weights.end());
  if (sum.weights.empty()) sum.weights.assign(size(), 1);
  Device& device = input.device();
  sum.received = Tensor::Empty(device, {size() * own_count}, input.dtype(),
                               MemoryKind::kCommunication, call.purpose);
  if (input.dtype() == DType::kF16) {
    sum.widened = Tensor::Empty(device, {size() * own_count}, DType::kF32,
                                MemoryKind::kCommunication, call.purpose);
  }
  sum.total = Tensor::Empty(device, {own_count}, AccumulationType(input.dtype()),
                            MemoryKind::kCommunication, call.purpose);
  return sum;
}

// output = the sum over the ranks of their part of `input` that is this rank's.
Status NcclCommunicator::Reduce(NcclLane* lane, cudaStream_t stream, const Tensor& input,
                                const std::vector<int64_t>& counts, const OrderedSum& sum,
                                const Tensor& output) const {
  const int64_t own = counts[rank()];
  RETURN_IF_ERROR(
      Exchange(lane, stream, input, counts, sum.received, std::vector<int64_t>(size(), own)));
  const Tensor& parts = sum.widened.defined() ? sum.widened : sum.received;
  if (sum.widened.defined()) sum.widened.CopyFrom(sum.received);
  sum.total.Fill(0);
  for (const int r : sum.order) {
    sum.total.Accumulate(parts.View1D(r * own, own), sum.weights[r]);
  }
  output.CopyFrom(sum.total);
  return absl::OkStatus();
}

std::unique_ptr<Work> NcclCommunicator::AllReduce(const Tensor& tensor, const Call& call) {
  const int64_t n = tensor.numel();
  const int64_t bytes =
      AllReduceBytes({rank(), size()}, n, tensor.dtype(), world_->options.block_bytes);
  if (SumsAlike(tensor.dtype(), call)) {
    const auto steps = [&](NcclLane* lane, cudaStream_t stream) -> Status {
      if (lane == nullptr) return absl::OkStatus();
      return lane->Group([&]() -> Status {
        NCCL_OR_RETURN(ncclAllReduce(Raw(tensor), Raw(tensor), n, NcclType(tensor.dtype()),
                                     NcclOp(call.op), lane->comm(), stream));
        return absl::OkStatus();
      });
    };
    return Start(collectives_.get(), Verb::kAllReduce, call, {tensor}, bytes, steps);
  }
  std::vector<int64_t> counts(size());
  for (int r = 0; r < size(); ++r) {
    counts[r] = PartBegin(n, size(), r + 1) - PartBegin(n, size(), r);
  }
  const OrderedSum sum = PrepareSum(tensor, counts[rank()], call);
  const Tensor flat = tensor.WithShape({n});
  const auto steps = [&](NcclLane* lane, cudaStream_t stream) -> Status {
    const Tensor own = flat.View1D(Before(counts, rank()), counts[rank()]);
    RETURN_IF_ERROR(Reduce(lane, stream, flat, counts, sum, own));
    return GatherParts(lane, stream, flat, counts);
  };
  return Start(collectives_.get(), Verb::kAllReduce, call,
               {tensor, sum.received, sum.widened, sum.total}, bytes, steps);
}

std::unique_ptr<Work> NcclCommunicator::ReduceScatter(const Tensor& input, const Tensor& output,
                                                      const Call& call) {
  const std::vector<int64_t> counts = PartCounts(call.counts, input.numel());
  CHECK_EQ(output.numel(), counts[rank()])
      << "elements of this rank's part [" << call.purpose << "]";
  const int64_t bytes = ReduceScatterBytes({rank(), size()}, counts, input.dtype());
  const bool by_nccl = SumsAlike(input.dtype(), call) && size() > 1;
  if (by_nccl && (AreEqual(counts) || !IsFloating(input.dtype()) || call.op != ReduceOp::kSum)) {
    const auto steps = [&](NcclLane* lane, cudaStream_t stream) -> Status {
      return lane->Group([&]() -> Status {
        const ncclDataType_t type = NcclType(input.dtype());
        if (AreEqual(counts)) {
          NCCL_OR_RETURN(ncclReduceScatter(Raw(input), Raw(output), counts[0], type,
                                           NcclOp(call.op), lane->comm(), stream));
          return absl::OkStatus();
        }
        for (int r = 0; r < size(); ++r) {
          NCCL_OR_RETURN(ncclReduce(Raw(input, Before(counts, r)), Raw(output), counts[r], type,
                                    NcclOp(call.op), r, lane->comm(), stream));
        }
        return absl::OkStatus();
      });
    };
    return Start(collectives_.get(), Verb::kReduceScatter, call, {input, output}, bytes, steps);
  }
  if (size() == 1 && SumsAlike(input.dtype(), call)) return AllGather(input, output, call);
  const OrderedSum sum = PrepareSum(input, counts[rank()], call);
  const auto steps = [&](NcclLane* lane, cudaStream_t stream) {
    return Reduce(lane, stream, input.WithShape({input.numel()}), counts, sum,
                  output.WithShape({output.numel()}));
  };
  return Start(collectives_.get(), Verb::kReduceScatter, call,
               {input, output, sum.received, sum.widened, sum.total}, bytes, steps);
}

std::unique_ptr<Work> NcclCommunicator::AllGather(const Tensor& input, const Tensor& output,
                                                  const Call& call) {
  const std::vector<int64_t> counts = PartCounts(call.counts, output.numel());
  CHECK_EQ(input.numel(), counts[rank()])
      << "elements of this rank's part [" << call.purpose << "]";
  const auto steps = [&](NcclLane* lane, cudaStream_t stream) -> Status {
    if (lane != nullptr && AreEqual(counts)) {
      return lane->Group([&]() -> Status {
        NCCL_OR_RETURN(ncclAllGather(Raw(input), Raw(output), counts[0], NcclType(input.dtype()),
                                     lane->comm(), stream));
        return absl::OkStatus();
      });
    }
    RETURN_IF_ERROR(
        CopyOnDevice(Raw(output, Before(counts, rank())), Raw(input), ByteSize(input), stream));
    return GatherParts(lane, stream, output, counts);
  };
  return Start(collectives_.get(), Verb::kAllGather, call, {input, output},
               AllGatherBytes({rank(), size()}, counts, input.dtype()), steps);
}

std::unique_ptr<Work> NcclCommunicator::AllToAll(const Tensor& input,
                                                 absl::Span<const int64_t> send_counts,
                                                 const Tensor& output,
                                                 absl::Span<const int64_t> recv_counts,
                                                 const Call& call) {
  const std::vector<int64_t> sends = PartCounts(send_counts, input.numel());
  const std::vector<int64_t> recvs = PartCounts(recv_counts, output.numel());
  CHECK_EQ(sends[rank()], recvs[rank()])
      << "elements from this rank to itself [" << call.purpose << "]";
  const auto steps = [&](NcclLane* lane, cudaStream_t stream) {
    return Exchange(lane, stream, input, sends, output, recvs);
  };
  const int64_t bytes = (input.numel() - sends[rank()]) * DTypeSize(input.dtype());
  return Start(collectives_.get(), Verb::kAllToAll, call, {input, output}, bytes, steps);
}

std::unique_ptr<Work> NcclCommunicator::Broadcast(const Tensor& tensor, int root,
                                                  const Call& call) {
  CHECK(root >= 0 && root < size()) << "root " << root << " of " << size() << " ranks";
  const auto steps = [&](NcclLane* lane, cudaStream_t stream) -> Status {
    if (lane == nullptr) return absl::OkStatus();
    return lane->Group([&]() -> Status {
      NCCL_OR_RETURN(ncclBroadcast(Raw(tensor), Raw(tensor), tensor.numel(),
                                   NcclType(tensor.dtype()), root, lane->comm(), stream));
      return absl::OkStatus();
    });
  };
  return Start(collectives_.get(), Verb::kBroadcast, call, {tensor},
               rank() == root ? ByteSize(tensor) : 0, steps);
}

std::unique_ptr<Work> NcclCommunicator::Send(const Tensor& tensor, int peer, const Call& call) {
  return PointToPoint(Verb::kSend, tensor, peer, call, ByteSize(tensor));
}

std::unique_ptr<Work> NcclCommunicator::Recv(const Tensor& tensor, int peer, const Call& call) {
  return PointToPoint(Verb::kRecv, tensor, peer, call, 0);
}

std::unique_ptr<Work> NcclCommunicator::PointToPoint(Verb verb, const Tensor& tensor, int peer,
                                                     const Call& call, int64_t sent_bytes) {
  CHECK(peer >= 0 && peer < size()) << "peer " << peer << " of " << size() << " ranks";
  if (peer == rank()) return ToSelf(verb, tensor, call);
  const bool sends = verb == Verb::kSend;
  const auto steps = [&](NcclLane* lane, cudaStream_t stream) -> Status {
    return lane->Group([&]() -> Status {
      const ncclDataType_t type = NcclType(tensor.dtype());
      if (sends) {
        NCCL_OR_RETURN(ncclSend(Raw(tensor), tensor.numel(), type, 1, lane->comm(), stream));
      } else {
        NCCL_OR_RETURN(ncclRecv(Raw(tensor), tensor.numel(), type, 0, lane->comm(), stream));
      }
      return absl::OkStatus();
    });
  };
  return Start(LaneOf(sends ? Edge{rank(), peer} : Edge{peer, rank()}), verb, call, {tensor},
               sent_bytes, steps, peer);
}

// The half that comes second copies, in the order of the compute stream.
std::unique_ptr<Work> NcclCommunicator::ToSelf(Verb verb, const Tensor& tensor, const Call& call) {
  const bool sends = verb == Verb::kSend;
  std::deque<Half>& others = sends ? receives_from_self_ : sends_to_self_;
  const Half mine = {tensor.Detach(),
                     std::make_shared<Status>(absl::FailedPreconditionError(absl::StrCat(
                         "'", call.purpose, "' along ", axis(), " waits for this rank itself")))};
  if (others.empty()) {
    (sends ? sends_to_self_ : receives_from_self_).push_back(mine);
    return std::make_unique<DoneWork>(mine.status);
  }
  const Half other = std::move(others.front());
  others.pop_front();
  const Tensor& from = sends ? mine.tensor : other.tensor;
  const Tensor& to = sends ? other.tensor : mine.tensor;
  *mine.status = from.numel() == to.numel() && from.dtype() == to.dtype()
                     ? CopyOnDevice(Raw(to), Raw(from), ByteSize(from), world_->device.stream())
                     : absl::InvalidArgumentError(absl::StrCat(
                           "'", call.purpose, "' along ", axis(), ": the halves differ in size"));
  *other.status = *mine.status;
  return std::make_unique<DoneWork>(mine.status);
}

StatusOr<std::unique_ptr<Communicator>> NcclCommunicator::Split(int64_t color, int64_t key,
                                                                absl::string_view axis) {
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> control, control_->Split(color, key, axis));
  if (control == nullptr) return nullptr;
  return Create(world_, std::move(control));
}

void NcclCommunicator::Abort(const Status& status) {
  world_->watchdog.Fail(status);
  world_->control.Abort(status);
}

}  // namespace trireme
