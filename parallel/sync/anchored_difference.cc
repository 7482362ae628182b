#include "core/base/log.h"
#include "parallel/sync/round_exchange.h"

namespace trireme {
namespace {

class AnchoredDifference : public RoundExchange {
 public:
  AnchoredDifference(Communicator& replica, Device& host, BlockedSlices slices,
                     std::unique_ptr<Outer> outer, const AnchorOptions& options)
      : num_replicas_(replica.size()),
        slices_(std::move(slices)),
        outer_(std::move(outer)),
        options_(options) {
    const Tensor& values = slices_.channel->values();
    const auto empty = [&](const char* label) {
      return Tensor::Zeros(host, values.shape(), values.dtype(), MemoryKind::kCommunication, label);
    };
    theta_ = empty("exchanged slices");
    if (options_.without_anchor) return;
    anchor_ = empty("anchor");
    for (const std::string& name : outer_->state_names()) {
      states_.push_back(empty(name.c_str()));
    }
    ThrowIfError(Restart());
  }

  Status Restart() override {
    return options_.without_anchor ? absl::OkStatus() : slices_.Read(anchor_);
  }

  Status Send(const RoundEnd& end) override {
    const Tensor& values = slices_.channel->values();
    RETURN_IF_ERROR(slices_.Read(options_.without_anchor ? values : theta_));
    if (!options_.without_anchor) {
      RETURN_IF_ERROR(CatchFailure([&] {
        values.CopyFrom(anchor_);
        values.Accumulate(theta_, -1);
      }));
    }
    return slices_.channel->Start(end.round, end.weights);
  }

  Status Arrive() override { return slices_.channel->Finish(); }

  Status Apply(const RoundEnd& end) override {
    RETURN_IF_ERROR(Arrive());
    RETURN_IF_ERROR(slices_.Read(theta_));  // Steps may have been made since Send.
    std::vector<View> states;
    for (const Tensor& state : states_) states.push_back(state.view());
    OuterStep step;
    if (anchor_.defined()) step.anchor = anchor_.view();
    step.theta = theta_.view();
    step.delta = slices_.channel->mean().view();
    step.states = states;
    step.learning_rate = end.learning_rate;
    step.learning_rate_sum = end.learning_rate_sum;
    step.num_replicas = num_replicas_;
    step.keep_local = end.last ? 0 : options_.keep_local;
    outer_->Apply(step);
    const bool to_anchor = end.last && outer_->merges_itself();
    return slices_.Write(to_anchor ? anchor_ : theta_);
  }

  bool makes_equal() const override { return options_.keep_local == 0 && !outer_->merges_itself(); }

  const WholeBlocks* blocks() const override { return slices_.blocks.get(); }

  std::vector<ExchangeState> States(bool arrived) const override {
    std::vector<ExchangeState> states = slices_.channel->States();
    const auto add = [&](const std::string& name, const Tensor& data) {
      states.push_back({name, ExchangeState::Layout::kElements, data});
    };
    if (anchor_.defined()) add("anchor", anchor_);
    const std::vector<std::string> names = outer_->state_names();
    for (size_t i = 0; i < states_.size(); ++i) add(names[i], states_[i]);
    if (arrived) add("arrived", slices_.channel->mean());
    return states;
  }

 private:
  const int num_replicas_;
  const BlockedSlices slices_;
  const std::unique_ptr<Outer> outer_;
  const AnchorOptions options_;
  Tensor theta_, anchor_;
  std::vector<Tensor> states_;  // Of the outer step.
};

}  // namespace

std::unique_ptr<RoundExchange> MakeAnchoredDifference(Communicator& replica, Device& host,
                                                      BlockedSlices slices,
                                                      std::unique_ptr<Outer> outer,
                                                      const AnchorOptions& options) {
  return std::make_unique<AnchoredDifference>(replica, host, std::move(slices), std::move(outer),
                                              options);
}

}  // namespace trireme
