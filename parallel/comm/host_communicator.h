// The communicator of the host transports: turns calls into schedules for the engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/engine.h"

namespace trireme {

class HostCommunicator : public Communicator {
 public:
  // The world over `transport`.
  static std::unique_ptr<Communicator> World(std::unique_ptr<Transport> transport,
                                             const CommOptions& options);

  int rank() const override { return group_->rank; }
  const std::string& axis() const override { return group_->axis; }
  absl::Span<const int> world_ranks() const override { return group_->world_ranks; }

  std::unique_ptr<Work> AllReduce(const Tensor& tensor, const Call& call) override;
  std::unique_ptr<Work> AllGather(const Tensor& input, const Tensor& output,
                                  const Call& call) override;
  std::unique_ptr<Work> ReduceScatter(const Tensor& input, const Tensor& output,
                                      const Call& call) override;
  std::unique_ptr<Work> AllToAll(const Tensor& input, absl::Span<const int64_t> send_counts,
                                 const Tensor& output, absl::Span<const int64_t> recv_counts,
                                 const Call& call) override;
  std::unique_ptr<Work> Broadcast(const Tensor& tensor, int root, const Call& call) override;
  std::unique_ptr<Work> Send(const Tensor& tensor, int peer, const Call& call) override;
  std::unique_ptr<Work> Recv(const Tensor& tensor, int peer, const Call& call) override;
  std::unique_ptr<Work> Barrier(const Call& call) override;
  StatusOr<std::unique_ptr<Communicator>> Split(int64_t color, int64_t key,
                                                absl::string_view axis) override;
  void Abort(const Status& status) override { engine_->Abort(status); }
  Status aborted() const override { return engine_->transport().aborted(); }
  const Journal& journal() const override { return engine_->journal(); }

 private:
  HostCommunicator(std::shared_ptr<Engine> engine, std::shared_ptr<Group> group)
      : engine_(std::move(engine)), group_(std::move(group)) {}

  Place place() const { return {rank(), size()}; }
  std::vector<int64_t> PartCounts(absl::Span<const int64_t> counts, int64_t total) const;
  Reduction ReductionOf(const Tensor& tensor, const Call& call) const;
  std::shared_ptr<Operation> NewOperation(Verb verb, const Call& call, std::string text) const;
  std::unique_ptr<Work> Start(std::shared_ptr<Operation> op, std::vector<Tensor> tensors) const;
  std::unique_ptr<Work> PointToPoint(Verb verb, const Tensor& tensor, int peer,
                                     const Call& call) const;

  const std::shared_ptr<Engine> engine_;
  const std::shared_ptr<Group> group_;
};

}  // namespace trireme
