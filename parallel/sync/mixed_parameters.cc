#include "parallel/sync/round_exchange.h"

namespace trireme {
namespace {

class MixedParameters : public RoundExchange {
 public:
  MixedParameters(Communicator& replica, BlockedSlices slices, const Mixer& mixer)
      : replica_(replica), slices_(std::move(slices)), mixer_(mixer) {}

  Status Send(const RoundEnd& end) override {
    RETURN_IF_ERROR(slices_.Read(slices_.channel->values()));
    return slices_.channel->Start(end.round, end.weights);
  }

  Status Arrive() override { return slices_.channel->Finish(); }

  Status Apply(const RoundEnd& end) override {
    RETURN_IF_ERROR(Arrive());
    if (end.last && !mixer_.means()) RETURN_IF_ERROR(MakeOne());
    return slices_.Write(slices_.channel->mean());
  }

  bool makes_equal() const override { return mixer_.means(); }

  std::vector<ExchangeState> States(bool) const override { return slices_.channel->States(); }
  const WholeBlocks* blocks() const override { return slices_.blocks.get(); }

 private:
  // What a gossip leaves unchanged: sum_k p_k theta_k / sum_k p_k.
  Status MakeOne() {
    return CatchFailure([&] {
      const Tensor& mine = slices_.channel->push_weight();
      const Tensor all = Tensor::Empty(mine.device(), {replica_.size()}, DType::kF64,
                                       MemoryKind::kCommunication, "push weights");
      ThrowIfError(replica_.AllGather(mine, all, {.purpose = "push weights"})->Wait());
      std::vector<double> weights = all.ToVector();
      double sum = 0;
      for (const double weight : weights) sum += weight;
      for (double& weight : weights) weight /= sum;
      ThrowIfError(
          replica_.AllReduce(slices_.channel->mean(), {.purpose = "last mean", .weights = weights})
              ->Wait());
      mine.Fill(1);
    });
  }

  Communicator& replica_;
  const BlockedSlices slices_;
  const Mixer& mixer_;
};

}  // namespace

std::unique_ptr<RoundExchange> MakeMixedParameters(Communicator& replica, BlockedSlices slices,
                                                   const Mixer& mixer) {
  return std::make_unique<MixedParameters>(replica, std::move(slices), mixer);
}

}  // namespace trireme
