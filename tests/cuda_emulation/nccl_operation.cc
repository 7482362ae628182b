#include "tests/cuda_emulation/nccl_operation.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/tensor/dtype.h"
#include "tests/cuda_emulation/errors.h"

namespace trireme::emulation {
namespace {

const char* KindName(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kSend:
      return "ncclSend";
    case CollectiveKind::kRecv:
      return "ncclRecv";
    case CollectiveKind::kAllReduce:
      return "ncclAllReduce";
    case CollectiveKind::kReduce:
      return "ncclReduce";
    case CollectiveKind::kReduceScatter:
      return "ncclReduceScatter";
    case CollectiveKind::kAllGather:
      return "ncclAllGather";
    case CollectiveKind::kBroadcast:
      return "ncclBroadcast";
  }
  return "?";
}

const char* TypeName(ncclDataType_t type) {
  constexpr const char* kNames[] = {"int8",   "uint8",   "int32",   "uint32",  "int64",
                                    "uint64", "float16", "float32", "float64", "bfloat16"};
  return type >= 0 && static_cast<size_t>(type) < std::size(kNames) ? kNames[type] : "?";
}

bool HasRoot(CollectiveKind kind) {
  return kind == CollectiveKind::kReduce || kind == CollectiveKind::kBroadcast;
}
bool Reduces(CollectiveKind kind) {
  return kind == CollectiveKind::kAllReduce || kind == CollectiveKind::kReduce ||
         kind == CollectiveKind::kReduceScatter;
}

constexpr uint32_t kScaledSum = 100;

const char* OpName(uint32_t op) {
  constexpr const char* kNames[] = {"sum", "product", "max", "min", "average"};
  return op == kScaledSum ? "sum of multiples" : op < std::size(kNames) ? kNames[op] : "?";
}

// bfloat16 is added in float32 and rounded each time, as it goes around a ring.
template <typename T>
T Combine(ncclRedOp_t op, T a, T b) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return bfloat16(Combine<float>(op, float(a), float(b)));
  } else {
    switch (op) {
      case ncclProd:
        return static_cast<T>(a * b);
      case ncclMax:
        return std::max(a, b);
      case ncclMin:
        return std::min(a, b);
      default:
        return static_cast<T>(a + b);
    }
  }
}
template <typename T>
T Scaled(T value, double factor) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return bfloat16(float(value) * static_cast<float>(factor));
  } else {
    return static_cast<T>(value * static_cast<T>(factor));
  }
}
template <typename T>
T Divided(T value, int by) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return bfloat16(float(value) / static_cast<float>(by));
  } else {
    return static_cast<T>(value / static_cast<T>(by));
  }
}

bool Overlap(const void* p, size_t p_bytes, const void* q, size_t q_bytes) {
  const auto p_begin = reinterpret_cast<uintptr_t>(p), q_begin = reinterpret_cast<uintptr_t>(q);
  return p_begin < q_begin + q_bytes && q_begin < p_begin + p_bytes;
}

}  // namespace

size_t NcclTypeBytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

std::string DescribeCall(const CollectiveCall& call) {
  std::string text = Format("%s of %llu %s", KindName(call.kind),
                            static_cast<unsigned long long>(call.count), TypeName(call.type));
  if (Reduces(call.kind))
    text += std::string(", ") + OpName(call.scaled ? kScaledSum : uint32_t{call.op});
  if (HasRoot(call.kind)) text += Format(", root %d", call.peer);
  if (call.kind == CollectiveKind::kSend) text += Format(" to %d", call.peer);
  if (call.kind == CollectiveKind::kRecv) text += Format(" from %d", call.peer);
  return text;
}

Operation::Operation(const CollectiveCall& call, const Segment& segment, int rank, int num_ranks,
                     uint64_t number)
    : call_(call),
      segment_(segment),
      rank_(rank),
      num_ranks_(num_ranks),
      number_(number),
      is_collective_(IsCollective(call)) {}

std::string Operation::Describe() const {
  return DescribeCall(call_) + Format(" (number %llu) on rank %d of %d",
                                      static_cast<unsigned long long>(number_), rank_, num_ranks_);
}

Operation::Header Operation::MakeHeader() const {
  const uint32_t op = call_.scaled ? kScaledSum : static_cast<uint32_t>(call_.op);
  // Messages are told apart by their order on a ring alone.
  if (!is_collective_) {
    return {0, call_.count, 0, static_cast<uint32_t>(call_.type), 0, 0};
  }
  return {number_,
          call_.count,
          static_cast<uint32_t>(call_.kind),
          static_cast<uint32_t>(call_.type),
          Reduces(call_.kind) ? op : 0,
          HasRoot(call_.kind) ? static_cast<uint32_t>(call_.peer) : 0};
}

void Operation::Send(int peer, const void* data, size_t bytes) {
  sends_.push_back({&segment_.ring(is_collective_, rank_, peer),
                    peer,
                    MakeHeader(),
                    static_cast<const unsigned char*>(data),
                    {},
                    bytes});
}

void Operation::Receive(int peer, size_t bytes) {
  receives_.push_back({&segment_.ring(is_collective_, peer, rank_),
                       peer,
                       {},
                       nullptr,
                       std::vector<unsigned char>(bytes),
                       bytes});
}

std::string Operation::Begin(DeviceMemory& memory) {
  const size_t type_bytes = NcclTypeBytes(call_.type);
  const size_t bytes = call_.count * type_bytes;
  const auto n = static_cast<size_t>(num_ranks_);
  const auto rank = static_cast<size_t>(rank_);
  const auto* send = static_cast<const unsigned char*>(call_.send);
  auto* receive = static_cast<unsigned char*>(call_.receive);
  const bool is_root = rank_ == call_.peer;
  size_t send_bytes = bytes, receive_bytes = bytes;
  const void* in_place = receive;  // Where the input may be if it overlaps the output.
  switch (call_.kind) {
    case CollectiveKind::kSend:
      receive_bytes = 0;
      Send(call_.peer, send, bytes);
      break;
    case CollectiveKind::kRecv:
      send_bytes = 0;
      Receive(call_.peer, bytes);
      break;
    case CollectiveKind::kAllReduce:
      for (int i = 0; i < num_ranks_; ++i) {
        Send(i, send, bytes);
        Receive(i, bytes);
      }
      break;
    case CollectiveKind::kReduce:
      receive_bytes = is_root ? bytes : 0;
      for (int i = 0; i < num_ranks_; ++i) {
        Send(i, send, i == call_.peer ? bytes : 0);
        Receive(i, is_root ? bytes : 0);
      }
      break;
    case CollectiveKind::kReduceScatter:
      send_bytes = bytes * n;
      in_place = receive - rank * bytes;
      for (int i = 0; i < num_ranks_; ++i) {
        Send(i, send + static_cast<size_t>(i) * bytes, bytes);
        Receive(i, bytes);
      }
      break;
    case CollectiveKind::kAllGather:
      receive_bytes = bytes * n;
      in_place = receive + rank * bytes;
      for (int i = 0; i < num_ranks_; ++i) {
        Send(i, send, bytes);
        Receive(i, bytes);
      }
      break;
    case CollectiveKind::kBroadcast:
      send_bytes = is_root ? bytes : 0;
      for (int i = 0; i < num_ranks_; ++i) {
        Send(i, send, is_root ? bytes : 0);
        Receive(i, i == call_.peer ? bytes : 0);
      }
      break;
  }
  for (const void* pointer : {static_cast<const void*>(send), static_cast<const void*>(receive)}) {
    if (reinterpret_cast<uintptr_t>(pointer) % std::max<size_t>(type_bytes, 1) != 0) {
      return Format("uses %p, which is not aligned to its type", pointer);
    }
  }
  if (send_bytes > 0 && receive_bytes > 0 && send != in_place &&
      Overlap(send, send_bytes, receive, receive_bytes)) {
    return "overlaps its input in another way than in place: " + memory.Describe(receive);
  }
  std::string wrong = send_bytes > 0 ? memory.Read(send, send_bytes) : "";
  if (wrong.empty() && receive_bytes > 0) {
    wrong = memory.CheckBounds(receive, receive_bytes, "writes");
  }
  return wrong;
}

void Operation::CheckHeader(const Transfer& transfer) {
  const Header& theirs = transfer.header;
  const Header ours = MakeHeader();
  if (!mismatch_.empty() || memcmp(&theirs, &ours, sizeof(Header)) == 0) return;
  CollectiveCall other;
  other.kind = is_collective_ ? static_cast<CollectiveKind>(theirs.kind) : CollectiveKind::kSend;
  other.count = theirs.count;
  other.type = static_cast<ncclDataType_t>(theirs.type);
  other.op = static_cast<ncclRedOp_t>(theirs.op);
  other.scaled = theirs.op == kScaledSum;
  other.peer = is_collective_ ? static_cast<int>(theirs.root) : rank_;
  mismatch_ = Describe() + " meets " + DescribeCall(other) +
              Format(" (number %llu) on rank %d", static_cast<unsigned long long>(theirs.number),
                     transfer.peer);
}

bool Operation::Advance(Taken& taken) {
  bool moved = false, waiting = false;
  auto move = [&](Transfer& transfer, auto&& part, size_t size, size_t offset, bool out) {
    if (transfer.moved < offset || transfer.moved >= offset + size) return;
    const size_t at = transfer.moved - offset;
    const size_t n = out ? transfer.ring->Put(part + at, size - at)
                         : transfer.ring->Get(const_cast<unsigned char*>(part) + at, size - at);
    transfer.moved += n;
    moved |= n > 0;
  };
  for (auto* transfers : {&sends_, &receives_}) {
    const bool out = transfers == &sends_;
    std::vector<const Ring*>& blocked = out ? taken.sends : taken.receives;
    for (Transfer& transfer : *transfers) {
      if (transfer.done()) continue;
      if (std::find(blocked.begin(), blocked.end(), transfer.ring) == blocked.end()) {
        const bool had_header = transfer.moved >= sizeof(Header);
        move(transfer, reinterpret_cast<const unsigned char*>(&transfer.header), sizeof(Header), 0,
             out);
        if (!out && !had_header && transfer.moved >= sizeof(Header)) {
          CheckHeader(transfer);
          if (!mismatch_.empty()) return moved;  // What follows is not ours.
        }
        move(transfer, out ? transfer.from : transfer.bytes.data(), transfer.size, sizeof(Header),
             out);
      }
      if (!transfer.done()) {
        blocked.push_back(transfer.ring);
        waiting = true;
      }
    }
  }
  done_ = !waiting;
  return moved;
}

void Operation::MarkNeeded() const {
  for (const auto* transfers : {&sends_, &receives_}) {
    for (const Transfer& transfer : *transfers) {
      if (!transfer.done()) segment_.needed(transfer.peer).store(1, std::memory_order_relaxed);
    }
  }
}

template <typename T>
void Operation::Reduce(uint64_t first, uint64_t count, unsigned char* result) const {
  const double factor = call_.scaled ? call_.scale : 1;
  for (uint64_t i = first; i < first + count; ++i) {
    T sum{};
    for (int rank = 0; rank < num_ranks_; ++rank) {
      T value;
      memcpy(&value, receives_[static_cast<size_t>(rank)].bytes.data() + i * sizeof(T), sizeof(T));
      if (call_.scaled) value = Scaled(value, factor);
      sum = rank == 0 ? value : Combine(call_.op, sum, value);
    }
    if (call_.op == ncclAvg) sum = Divided(sum, num_ranks_);
    memcpy(result + i * sizeof(T), &sum, sizeof(T));
  }
}

// The sum in order of ranks, the same on all of them.
void Operation::ReduceTo(uint64_t first, uint64_t count, void* to) const {
  auto* result = static_cast<unsigned char*>(to);
  switch (call_.type) {
    case ncclInt8:
      return Reduce<int8_t>(first, count, result);
    case ncclUint8:
      return Reduce<uint8_t>(first, count, result);
    case ncclInt32:
      return Reduce<int32_t>(first, count, result);
    case ncclUint32:
      return Reduce<uint32_t>(first, count, result);
    case ncclInt64:
      return Reduce<int64_t>(first, count, result);
    case ncclUint64:
      return Reduce<uint64_t>(first, count, result);
    case ncclFloat32:
      return Reduce<float>(first, count, result);
    case ncclFloat64:
      return Reduce<double>(first, count, result);
    default:
      return Reduce<bfloat16>(first, count, result);
  }
}

std::string Operation::Finish(DeviceMemory& memory) {
  const size_t bytes = call_.count * NcclTypeBytes(call_.type);
  auto* to = static_cast<unsigned char*>(call_.receive);
  const bool is_root = rank_ == call_.peer;
  if (bytes == 0 || call_.kind == CollectiveKind::kSend ||
      (call_.kind == CollectiveKind::kReduce && !is_root)) {
    return "";
  }
  const bool gathers = call_.kind == CollectiveKind::kAllGather;
  const size_t result_bytes = gathers ? bytes * static_cast<size_t>(num_ranks_) : bytes;
  std::string wrong = memory.Write(to, result_bytes);
  if (!wrong.empty()) return wrong;
  if (Reduces(call_.kind)) {
    ReduceTo(0, call_.count, to);
    return "";
  }
  for (const Transfer& transfer : receives_) {
    memcpy(to, transfer.bytes.data(), transfer.bytes.size());
    to += transfer.bytes.size();
  }
  return "";
}

}  // namespace trireme::emulation
