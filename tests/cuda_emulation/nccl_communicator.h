// A rank of an emulated NCCL communicator.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cuda_emulation/machine.h"
#include "tests/cuda_emulation/nccl_operation.h"
#include "tests/cuda_emulation/nccl_segment.h"

namespace trireme::emulation {

class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  Communicator(std::string name, int num_ranks, int rank, EmulatedDevice& device, bool blocking);
  // Of a split, complete when all ranks of the parent have said their colors.
  Communicator(std::shared_ptr<Communicator> parent, int split, int color, bool blocking);

  // ncclInProgress until all ranks are there, and until what was issued is under way.
  ncclResult_t Poll();
  ncclResult_t WaitUntilReady();

  // Work that goes out as one: the calls of a group. ncclInProgress where it is left to a later
  // Poll.
  ncclResult_t Issue(std::vector<CollectiveCall> calls, cudaStream_t stream);
  ncclResult_t CheckCall(const CollectiveCall& call) const;

  void Abort();
  bool HasOutstanding();
  void WaitForOutstanding();

  std::shared_ptr<Communicator> Split(int color, int key, bool blocking);
  ncclRedOp_t AddScale(double scale);
  double scale(ncclRedOp_t op) const { return scales_.at(static_cast<size_t>(op - ncclNumOps)); }
  bool has_scale(ncclRedOp_t op) const {
    return op >= ncclNumOps && static_cast<size_t>(op - ncclNumOps) < scales_.size();
  }

  int num_ranks() const { return num_ranks_; }
  int rank() const { return rank_; }
  bool blocking() const { return blocking_; }
  EmulatedDevice& device() { return device_; }
  const std::string& last_error() const { return last_error_; }

 private:
  struct Work;  // The operations of one Issue.

  void FinishInit();
  bool FinishSplit();
  void Attach();
  cudaError_t Run(Work& work);
  ncclResult_t Enqueue(const std::shared_ptr<Work>& work, CUstream_st& stream);

  std::string name_;
  int num_ranks_ = 0;
  int rank_ = -1;
  EmulatedDevice& device_;
  const bool blocking_;
  std::shared_ptr<Communicator> parent_;  // Until the split is complete.
  int split_ = 0;
  int color_ = 0;

  std::mutex mutex_;  // Guards what follows.
  std::shared_ptr<Segment> segment_;
  ncclResult_t state_ = ncclInProgress;
  bool ready_ = false;
  bool connected_ = false;  // The first operation sets up connections, which takes a while.
  int polls_until_connected_ = 0;
  std::shared_ptr<Work> deferred_;
  CUstream_st* deferred_stream_ = nullptr;
  std::vector<std::weak_ptr<Work>> outstanding_;
  std::vector<double> scales_;
  int num_splits_ = 0;
  uint64_t num_collectives_ = 0;
  uint64_t num_issued_ = 0;
  std::string last_error_;

  std::atomic<bool> aborted_{false};
  std::atomic<uint64_t> num_done_{0};  // Work goes in the order in which it was issued.
};

}  // namespace trireme::emulation
