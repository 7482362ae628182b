#include "tests/cuda_emulation/nccl_communicator.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "tests/cuda_emulation/errors.h"

namespace trireme::emulation {

struct Communicator::Work {
  std::vector<CollectiveCall> calls;
  std::vector<Operation> operations;
  uint64_t number;
  uint64_t first_collective;
  bool begun = false;
};

Communicator::Communicator(std::string name, int num_ranks, int rank, EmulatedDevice& device,
                           bool blocking)
    : name_(std::move(name)),
      num_ranks_(num_ranks),
      rank_(rank),
      device_(device),
      blocking_(blocking) {
  Attach();
}

Communicator::Communicator(std::shared_ptr<Communicator> parent, int split, int color,
                           bool blocking)
    : device_(parent->device_),
      blocking_(blocking),
      parent_(std::move(parent)),
      split_(split),
      color_(color) {}

void Communicator::Attach() {
  segment_ = Segment::Attach(name_, num_ranks_, rank_, device_.index);
  if (segment_ == nullptr) {
    state_ = ncclSystemError;
    last_error_ = "no shared memory";
    return;
  }
  Machine& machine = Machine::Get();
  const std::lock_guard<std::mutex> lock(machine.mutex());
  device_.needed.push_back(
      std::shared_ptr<std::atomic<uint32_t>>(segment_, &segment_->needed(rank_)));
}

bool Communicator::FinishSplit() {
  struct Member {
    int key;
    int rank;
  };
  std::vector<Member> members;
  const int slot = split_ % kMaxSplits;
  const uint32_t round = static_cast<uint32_t>(split_ / kMaxSplits) + 1;
  for (int i = 0; i < parent_->num_ranks_; ++i) {
    const SplitEntry& entry = parent_->segment_->split(slot, i);
    if (entry.present.load(std::memory_order_acquire) < round) return false;
    if (entry.color == color_) members.push_back({entry.key, i});
  }
  std::stable_sort(members.begin(), members.end(),
                   [](const Member& a, const Member& b) { return a.key < b.key; });
  num_ranks_ = static_cast<int>(members.size());
  for (int i = 0; i < num_ranks_; ++i) {
    if (members[static_cast<size_t>(i)].rank == parent_->rank_) rank_ = i;
  }
  name_ = parent_->name_ + Format("_%d_%d", split_, color_);
  parent_ = nullptr;
  Attach();
  return true;
}

void Communicator::FinishInit() {
  if (parent_ != nullptr && !FinishSplit()) return;
  if (segment_ == nullptr || !segment_->AllPresent()) return;
  const int duplicate = segment_->FirstOfDuplicates();
  if (duplicate >= 0) {
    last_error_ = Format("Duplicate GPU detected: rank %d and another are both on device %d",
                         duplicate, segment_->DeviceOf(duplicate));
    state_ = ncclInvalidUsage;
    return;
  }
  if (rank_ == 0) segment_->Unlink();
  ready_ = true;
  state_ = ncclSuccess;
}

ncclResult_t Communicator::Poll() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (state_ == ncclInProgress && !ready_) FinishInit();
  if (state_ == ncclInProgress && deferred_ != nullptr && --polls_until_connected_ <= 0) {
    connected_ = true;
    state_ = Enqueue(std::exchange(deferred_, nullptr), *deferred_stream_);
  }
  return state_;
}

ncclResult_t Communicator::WaitUntilReady() {
  while (Poll() == ncclInProgress && !aborted_) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return Poll();
}

ncclResult_t Communicator::CheckCall(const CollectiveCall& call) const {
  const bool sends = call.kind != CollectiveKind::kRecv;
  const bool receives = call.kind != CollectiveKind::kSend;
  if (NcclTypeBytes(call.type) == 0 || call.peer < 0 || call.peer >= num_ranks_) {
    return ncclInvalidArgument;
  }
  if (call.count > 0 &&
      ((sends && call.send == nullptr && call.kind != CollectiveKind::kBroadcast) ||
       (receives && call.receive == nullptr && call.kind != CollectiveKind::kReduce))) {
    return ncclInvalidArgument;
  }
  return ncclSuccess;
}

ncclResult_t Communicator::Issue(std::vector<CollectiveCall> calls, cudaStream_t handle) {
  CUstream_st& stream = Machine::Get().Stream(handle);
  if (stream.device != &device_) return ncclInvalidArgument;
  std::unique_lock<std::mutex> lock(mutex_);
  if (state_ != ncclSuccess) {
    last_error_ = "the communicator is used before its previous operation was polled to success";
    return state_ == ncclInProgress ? ncclInvalidArgument : state_;
  }
  auto work = std::make_shared<Work>();
  work->calls = std::move(calls);
  work->number = num_issued_++;
  work->first_collective = num_collectives_;
  // Messages have no number: ranks may have more or fewer of them.
  num_collectives_ += std::count_if(work->calls.begin(), work->calls.end(), IsCollective);
  std::erase_if(outstanding_, [](const auto& other) { return other.expired(); });
  outstanding_.push_back(work);
  if (connected_ || blocking_) {
    connected_ = true;
    return Enqueue(work, stream);
  }
  deferred_ = work;
  deferred_stream_ = &stream;
  polls_until_connected_ = 2;
  state_ = ncclInProgress;
  return ncclInProgress;
}

ncclResult_t Communicator::Enqueue(const std::shared_ptr<Work>& work, CUstream_st& stream) {
  // The last owner of a communicator may be its work.
  const auto self = shared_from_this();
  const cudaError_t code = Machine::Get().Enqueue(
      stream,
      {"NCCL", [self, work] { return self->Run(*work); },
       [self, number = work->number] { return self->aborted_ || self->num_done_ == number; }});
  return code == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

cudaError_t Communicator::Run(Work& work) {
  DeviceMemory& memory = device_.memory;
  auto fail = [](const Operation& operation, const std::string& wrong) {
    ReportError(operation.Describe() + " " + wrong);
    return cudaErrorIllegalAddress;
  };
  if (aborted_) {
    // What was to be received is anything by now; that it is worth nothing is the caller's to know.
    for (const CollectiveCall& call : work.calls) {
      const size_t parts = call.kind == CollectiveKind::kAllGather ? num_ranks_ : 1;
      const size_t bytes = parts * call.count * NcclTypeBytes(call.type);
      if (call.receive != nullptr && bytes > 0) memory.Write(call.receive, bytes);
    }
    return cudaSuccess;
  }
  if (!work.begun) {
    work.begun = true;
    uint64_t number = work.first_collective;
    for (size_t i = 0; i < work.calls.size(); ++i) {
      work.operations.emplace_back(work.calls[i], *segment_, rank_, num_ranks_, number);
      number += IsCollective(work.calls[i]);
      const std::string wrong = work.operations.back().Begin(memory);
      if (!wrong.empty()) return fail(work.operations.back(), wrong);
    }
  }
  for (bool moved = true; moved;) {
    moved = false;
    Operation::Taken taken;
    for (Operation& operation : work.operations) {
      if (operation.done()) continue;
      moved |= operation.Advance(taken);
      if (!operation.mismatch().empty()) {
        ReportError(operation.mismatch());
        return cudaErrorLaunchFailure;
      }
    }
  }
  bool done = true;
  for (const Operation& operation : work.operations) {
    if (operation.done()) continue;
    operation.MarkNeeded();
    done = false;
  }
  if (!done) return cudaErrorNotReady;
  for (Operation& operation : work.operations) {
    const std::string wrong = operation.Finish(memory);
    if (!wrong.empty()) return fail(operation, wrong);
  }
  segment_->needed(rank_).store(0, std::memory_order_relaxed);
  ++num_done_;
  return cudaSuccess;
}

void Communicator::Abort() {
  aborted_ = true;
  const std::lock_guard<std::mutex> lock(mutex_);
  deferred_ = nullptr;
  state_ = ncclInvalidUsage;
  Machine& machine = Machine::Get();
  const std::lock_guard<std::mutex> machine_lock(machine.mutex());
  machine.WakeWorkers();
}

bool Communicator::HasOutstanding() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::any_of(outstanding_.begin(), outstanding_.end(),
                     [](const auto& work) { return !work.expired(); });
}

void Communicator::WaitForOutstanding() {
  if (ready_) WaitUntilReady();  // What is issued but not under way.
  Machine::Get().WaitUntil(device_, [this] {
    return std::all_of(outstanding_.begin(), outstanding_.end(),
                       [](const auto& work) { return work.expired(); });
  });
}

std::shared_ptr<Communicator> Communicator::Split(int color, int key, bool blocking) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int number = num_splits_++;
  SplitEntry& entry = segment_->split(number % kMaxSplits, rank_);
  entry.color = color;
  entry.key = key;
  entry.present.store(static_cast<uint32_t>(number / kMaxSplits) + 1, std::memory_order_release);
  if (color == NCCL_SPLIT_NOCOLOR) return nullptr;
  return std::make_shared<Communicator>(shared_from_this(), number, color, blocking);
}

ncclRedOp_t Communicator::AddScale(double scale) {
  const std::lock_guard<std::mutex> lock(mutex_);
  scales_.push_back(scale);
  return static_cast<ncclRedOp_t>(ncclNumOps + static_cast<int>(scales_.size()) - 1);
}

}  // namespace trireme::emulation
