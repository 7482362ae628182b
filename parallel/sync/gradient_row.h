// One exchange of gradients, or of their moving average, at every step of a replica.
#pragma once

#include <memory>
#include <vector>

#include "core/module/unit_tensors.h"
#include "parallel/sync/exchange_spec.h"
#include "parallel/sync/round_exchange.h"

namespace trireme {

class GradientRow {
 public:
  // parameters: those of the row; `slices.slices` is of no use here. average: for point momentum,
  // the optimizer's states in which the moving average lives; empty: a state of this row. Throws
  // Failure.
  GradientRow(const ExchangeSpec& spec, std::vector<int> parameters, BlockedSlices slices,
              std::vector<Tensor> average, Device& host);

  const std::vector<int>& parameters() const { return parameters_; }

  // The replica's gradients times `factor` set off,
  Status Send(int64_t step, const UnitTensors& gradients, double factor,
              absl::Span<const double> weights);
  // and the mean is there, in their place.
  Status Receive(const UnitTensors& gradients);

  std::vector<ExchangeState> States() const;
  const WholeBlocks& blocks() const { return *slices_.blocks; }

 private:
  std::vector<Tensor> SlicesOf(const UnitTensors& gradients) const;

  const ExchangeSpec& spec_;
  const std::vector<int> parameters_;
  const BlockedSlices slices_;
  const std::vector<Tensor> optimizer_average_;
  Tensor average_;
};

}  // namespace trireme
