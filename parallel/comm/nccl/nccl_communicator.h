// The verbs of the communicator as calls of NCCL.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/nccl/nccl_lane.h"
#include "parallel/comm/nccl/nccl_world.h"

namespace trireme {

class NcclCommunicator : public Communicator {
 public:
  // A group with the ranks of `control`. Collective.
  static StatusOr<std::unique_ptr<Communicator>> Create(std::shared_ptr<NcclWorld> world,
                                                        std::unique_ptr<Communicator> control);

  int rank() const override { return control_->rank(); }
  const std::string& axis() const override { return control_->axis(); }
  absl::Span<const int> world_ranks() const override { return control_->world_ranks(); }

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
  std::unique_ptr<Work> Barrier(const Call& call) override { return control_->Barrier(call); }
  StatusOr<std::unique_ptr<Communicator>> Split(int64_t color, int64_t key,
                                                absl::string_view axis) override;
  void Abort(const Status& status) override;
  Status aborted() const override { return control_->aborted(); }
  const Journal& journal() const override { return world_->journal; }

 private:
  using Edge = std::pair<int, int>;  // From, to.

  NcclCommunicator(std::shared_ptr<NcclWorld> world, std::unique_ptr<Communicator> control)
      : world_(std::move(world)), control_(std::move(control)) {}
  Status Init();
  StatusOr<std::shared_ptr<NcclLane>> MakeLane(const ncclUniqueId& id, int rank, int size,
                                               const std::string& name);
  StatusOr<NcclLane*> LaneOf(Edge edge);
  std::string EdgeName(Edge edge) const;

  // What a call puts on a lane's stream; without a lane, in a group of one rank, on the compute
  // stream.
  using Steps = std::function<Status(NcclLane* lane, cudaStream_t stream)>;
  // The tensors are kept until the call is joined.
  std::unique_ptr<Work> Start(StatusOr<NcclLane*> lane, Verb verb, const Call& call,
                              std::vector<Tensor> tensors, int64_t sent_bytes, const Steps& steps,
                              int peer = -1);
  std::unique_ptr<Work> PointToPoint(Verb verb, const Tensor& tensor, int peer, const Call& call,
                                     int64_t sent_bytes);
  std::unique_ptr<Work> ToSelf(Verb verb, const Tensor& tensor, const Call& call);

  Status Exchange(NcclLane* lane, cudaStream_t stream, const Tensor& input,
                  const std::vector<int64_t>& sends, const Tensor& output,
                  const std::vector<int64_t>& recvs) const;
  Status GatherParts(NcclLane* lane, cudaStream_t stream, const Tensor& whole,
                     const std::vector<int64_t>& counts) const;

  // A sum on this rank: of the parts received, in an order, with weights.
  struct OrderedSum {
    std::vector<int> order;
    std::vector<double> weights;  // By rank.
    Tensor received;              // The parts, in rank order.
    Tensor widened;               // The same in f32, of f16: no arithmetic reads f16.
    Tensor total;                 // In the accumulation type.
  };
  OrderedSum PrepareSum(const Tensor& input, int64_t own_count, const Call& call) const;
  Status Reduce(NcclLane* lane, cudaStream_t stream, const Tensor& input,
                const std::vector<int64_t>& counts, const OrderedSum& sum,
                const Tensor& output) const;
  std::vector<int64_t> PartCounts(absl::Span<const int64_t> counts, int64_t total) const;

  const std::shared_ptr<NcclWorld> world_;
  const std::unique_ptr<Communicator> control_;
  std::shared_ptr<NcclLane> collectives_;  // None in a group of one rank.
  std::map<Edge, std::shared_ptr<NcclLane>> edges_;
  std::map<std::pair<Verb, int>, int64_t> num_calls_;
  // Messages from this rank to itself that wait for their other half.
  struct Half {
    Tensor tensor;
    std::shared_ptr<Status> status;
  };
  std::deque<Half> sends_to_self_, receives_from_self_;
};

}  // namespace trireme
