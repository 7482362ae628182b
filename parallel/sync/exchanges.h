// All exchanges of a run between its replicas, on one rank: the rows of its config at work.
//
//   gradients of a step -> MeanGradients -> the optimizer's update -> AfterUpdate
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/module/parameter.h"
#include "core/module/unit_tensors.h"
#include "parallel/comm/communicator.h"
#include "parallel/sync/exchange_spec.h"
#include "parallel/sync/gradient_exchange.h"
#include "parallel/sync/round_clock.h"
#include "parallel/sync/round_exchange.h"

namespace trireme {

// What exchanges need to know of a run.
struct ExchangesContext {
  const ParameterSet& parameters;
  Device& device;
  Communicator& replica;
  // The ranks of a replica that cut parameters among them: shard, sequence and tensor; nullptr:
  // this rank alone.
  Communicator* inside = nullptr;
  uint64_t seed = 0;
  RunTimes times;  // Of the whole run.
  // A state of the optimizer for parameter i; undefined when it has none of that name.
  std::function<Tensor(int parameter, const std::string& state)> optimizer_state;
};

class Exchanges {
 public:
  // The rows are checked (CheckExchange). INVALID_ARGUMENT names a row whose pattern has nothing
  // left to match or whose state the optimizer has not. All references outlive this.
  static StatusOr<std::unique_ptr<Exchanges>> Create(std::vector<ExchangeSpec> rows,
                                                     const ExchangesContext& context);

  // Whether the gradients of a step are plainly added up over all replicas, so that whoever
  // computes them may do it on the way. Otherwise they stay inside the replica until MeanGradients.
  bool AddsGradientsUp(int64_t step) const;

  // An update with gradients of this replica alone is about to be made, or was: `loss` is what the
  // replica's own samples added up to.
  // After `steps_done` steps. True when parameters were exchanged.
  StatusOr<bool> AfterUpdate(int64_t steps_done, const LossSum& loss);

  // Whether all replicas have the same parameters.
  bool in_agreement() const { return in_agreement_; }

 private:
  // One row and one of its fragments.
  struct Round {
    const ExchangeSpec* spec;
    std::unique_ptr<SyncRule> rule;
    std::unique_ptr<RoundClock> clock;
    std::unique_ptr<RoundExchange> exchange;
    std::vector<int> parameters;
    LossSum loss;          // Of this replica in this round.
    RoundEnd sent;         // While something is on its way,
    int64_t apply_at = 0;  // until so many steps are done; 0: nothing is.
  };

  Exchanges(std::vector<ExchangeSpec> rows, const ExchangesContext& context)
      : rows_(std::move(rows)), context_(context) {}
  Status AddRounds(int row);
  StatusOr<std::vector<LossSum>> GatherLosses(const LossSum& mine);
  Status EndRound(Round& round, int64_t steps_done);

  const std::vector<ExchangeSpec> rows_;
  const ExchangesContext context_;
  std::vector<Round> rounds_;
  bool in_agreement_ = true;
};

}  // namespace trireme
