#include "parallel/sync/gradient_row.h"

#include "parallel/sync/host_vector.h"

namespace trireme {

GradientRow::GradientRow(const ExchangeSpec& spec, std::vector<int> parameters,
                         BlockedSlices slices, std::vector<Tensor> average, Device& host)
    : spec_(spec),
      parameters_(std::move(parameters)),
      slices_(std::move(slices)),
      optimizer_average_(std::move(average)) {
  if (spec.point != ExchangePoint::kMomentum) return;
  const Tensor& values = slices_.channel->values();
  average_ = Tensor::Zeros(host, values.shape(), values.dtype(), MemoryKind::kCommunication,
                           "average gradient");
}

std::vector<Tensor> GradientRow::SlicesOf(const UnitTensors& gradients) const {
  std::vector<Tensor> slices;
  for (const int i : parameters_) slices.push_back(gradients.of(i));
  return slices;
}

Status GradientRow::Send(int64_t step, const UnitTensors& gradients, double factor,
                         absl::Span<const double> weights) {
  const Tensor& values = slices_.channel->values();
  RETURN_IF_ERROR(slices_.blocks->ToBlocks(SlicesOf(gradients), values));
  Scale(values, factor);
  if (average_.defined()) {
    if (!optimizer_average_.empty()) {
      RETURN_IF_ERROR(slices_.blocks->ToBlocks(optimizer_average_, average_));
    }
    Scale(average_, spec_.momentum);
    RETURN_IF_ERROR(CatchFailure([&] {
      average_.Accumulate(values, 1 - spec_.momentum);
      values.CopyFrom(average_);
    }));
  }
  return slices_.channel->Start(step, weights);
}

Status GradientRow::Receive(const UnitTensors& gradients) {
  RETURN_IF_ERROR(slices_.channel->Finish());
  const Tensor& mean = slices_.channel->mean();
  // EF21's memory follows each replica's own average; otherwise all go on from the mean.
  if (average_.defined() && spec_.memory != ExchangeMemory::kDifference) {
    RETURN_IF_ERROR(CatchFailure([&] { average_.CopyFrom(mean); }));
  }
  return slices_.blocks->FromBlocks(mean, SlicesOf(gradients));
}

std::vector<ExchangeState> GradientRow::States() const {
  std::vector<ExchangeState> states = slices_.channel->States();
  if (average_.defined() && optimizer_average_.empty()) {
    ExchangeState state = {"average", ExchangeState::Layout::kElements, average_};
    state.of_replica = spec_.memory == ExchangeMemory::kDifference;
    states.push_back(std::move(state));
  }
  return states;
}

}  // namespace trireme
