// Calls under way.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/nccl/nccl_world.h"

namespace trireme {

// A call on a lane, done when its event has happened.
class NcclWork : public Work {
 public:
  NcclWork(std::shared_ptr<NcclWorld> world, std::string text, std::shared_ptr<CudaEvent> done,
           std::vector<Tensor> tensors)
      : world_(std::move(world)),
        text_(std::move(text)),
        done_(std::move(done)),
        tensors_(std::move(tensors)) {}
  ~NcclWork() override;

  Status Wait() override;
  void Join(Queue& queue) override;

 private:
  Status Follow(Queue& queue);

  const std::shared_ptr<NcclWorld> world_;
  const std::string text_;
  const std::shared_ptr<CudaEvent> done_;
  std::vector<Tensor> tensors_;
};

// A call that needs no peer.
class DoneWork : public Work {
 public:
  explicit DoneWork(Status status) : DoneWork(std::make_shared<Status>(std::move(status))) {}
  explicit DoneWork(std::shared_ptr<const Status> status) : status_(std::move(status)) {}
  Status Wait() override { return *status_; }
  void Join(Queue&) override { ThrowIfError(*status_); }

 private:
  const std::shared_ptr<const Status> status_;
};

}  // namespace trireme
