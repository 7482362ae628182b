// All exchanges of a run between its replicas, on one rank: the rows of its config at work.
//
//   gradients of a step -> MeanGradients -> the optimizer's update -> AfterUpdate
//
// Rows of gradients work at every step, all others at the ends of rounds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/module/parameter.h"
#include "core/module/unit_tensors.h"
#include "parallel/comm/communicator.h"
#include "parallel/sync/exchange_spec.h"
#include "parallel/sync/gradient_exchange.h"
#include "parallel/sync/gradient_row.h"
#include "parallel/sync/round_clock.h"
#include "parallel/sync/round_exchange.h"

namespace trireme {

// What exchanges need to know of a run.
struct ExchangesContext {
  const ParameterSet& parameters;
  Device& device;
  Communicator& replica;
  // The ranks of a replica that cut parameters among them (shard, sequence and tensor), and all of
  // its ranks; nullptr: this one alone.
  Communicator* inside = nullptr;
  Communicator* whole = nullptr;
  int tensor_rank = 0;
  uint64_t seed = 0;
  RunTimes times;  // Of the whole run.
  // A state of the optimizer for parameter i; undefined when it has none of that name.
  std::function<Tensor(int parameter, const std::string& state)> optimizer_state;
};

class Exchanges {
 public:
  // The rows are checked (CheckExchange). INVALID_ARGUMENT names a row whose pattern has nothing
  // left to match, whose codec does not suit a parameter, whose state the optimizer has not.
  // A collective of the replica's ranks. All references outlive this.
  static StatusOr<std::unique_ptr<Exchanges>> Create(std::vector<ExchangeSpec> rows,
                                                     const ExchangesContext& context);

  // Whether the gradients of a step are plainly added up over all replicas, so that whoever
  // computes them may do it on the way. Otherwise they stay inside the replica.
  bool AddsGradientsUp(int64_t step) const;
  // Whether MeanGradients has something to do then.
  bool HasGradientRows(int64_t step) const;
  // `gradients`: of the replica's own samples, summed; `loss` likewise. Afterwards the mean
  // gradients that the rows make of them (of a parameter without a row, the replica's own mean),
  // and the loss of all replicas.
  Status MeanGradients(int64_t step, const UnitTensors& gradients, LossSum* loss);

  // After `steps_done` steps; `loss` is what the replica's samples of the last one added up to.
  // True when slices were exchanged.
  StatusOr<bool> AfterUpdate(int64_t steps_done, const LossSum& loss);

  // What the last AfterUpdate saw.
  struct Report {
    int64_t rounds = 0;  // That ended.
    // How far from their mean replicas were before they took it: root of the mean square distance,
    // over the norm of the mean. Absent: no parameters were replaced by their mean.
    std::optional<double> divergence;
  };
  const Report& report() const { return report_; }

  // Whether all replicas have the same parameters.
  bool in_agreement() const;
  // Whether all parameters were exchanged after the last step.
  bool at_round_end() const;
  // Whether replicas make steps of their own at some time: their optimizers' states differ then.
  bool has_local_steps() const;

  // For checkpoints, between steps. Settle waits for what is on its way; a part of what the rows
  // keep from step to step is a box of a tensor.
  struct Part {
    std::string name;    // "layers.3.mixer.wq/exchange0.memory", "exchange0.loss"
    int parameter = -1;  // Whose it is; -1: of the whole exchange.
    Shape global;        // Without the replicas.
    Box local;
    Tensor data;
    bool of_replica = false;
    ExchangeState::Resize resize = ExchangeState::Resize::kMean;
    bool is_cut_by_replica = false;
  };
  Status Settle();
  std::vector<Part> Parts();
  // What is not a tensor, the same on all ranks.
  std::map<std::string, double> Numbers() const;
  // Loading: first the numbers, which say what Parts() there are (INVALID_ARGUMENT when one is
  // missing); then the parameters, the optimizer's states and Parts() are filled; then Loaded.
  Status SetNumbers(const std::map<std::string, double>& numbers);
  void Loaded();
  // The parameters alone were filled: anchors start from them.
  Status Restart();

 private:
  // A row of the config. What its rounds, or its gradients, share.
  struct Row {
    const ExchangeSpec* spec;
    std::unique_ptr<SyncRule> rule;
    std::unique_ptr<Codec> codec;
    std::unique_ptr<Mixer> mixer;
    std::unique_ptr<GradientRow> gradients;
  };
  // One fragment of a row.
  struct Round {
    const Row* row;
    std::unique_ptr<RoundClock> clock;
    std::unique_ptr<RoundExchange> exchange;
    std::vector<int> parameters;
    LossSum loss;             // Of this replica in this round.
    Tensor saved_loss;        // The same for a checkpoint.
    RoundEnd sent;            // While something is on its way,
    int64_t apply_at = 0;     // until so many steps are done; 0: nothing is.
    double mean_squares = 0;  // Of the replicas when it was sent.
  };

  Exchanges(std::vector<ExchangeSpec> rows, const ExchangesContext& context)
      : specs_(std::move(rows)),
        context_(context),
        exchanged_at_(context.parameters.parameters().size(), 0),
        agrees_(context.parameters.parameters().size(), true) {}
  Status AddRow(int index);
  Status AddRounds(Row& row, const std::vector<int>& parameters);
  StatusOr<std::unique_ptr<RoundExchange>> MakeRound(const Row& row,
                                                     const std::vector<int>& chosen);
  StatusOr<BlockedSlices> MakeSlices(const Row& row, const std::vector<int>& chosen,
                                     std::vector<Tensor> slices, const char* purpose);
  StatusOr<std::vector<Tensor>> States(const std::string& name, const std::vector<int>& chosen);
  struct ReplicaReport {
    LossSum loss;
    double squares = 0;  // Of this rank's slices.
  };
  StatusOr<std::vector<ReplicaReport>> GatherReports(const LossSum& loss, double squares);
  Status EndRound(Round& round, int64_t steps_done);
  Status ApplyRound(Round& round);
  double SquaresOf(const Round& round) const;
  // Whether each parameter is updated alike by replicas that have the same.
  std::vector<bool> UpdatesAgree(int64_t step) const;
  std::string NameOf(const Row& row) const;
  void AddParts(const std::string& exchange, const std::vector<int>& parameters,
                const WholeBlocks& blocks, const Codec& codec,
                absl::Span<const ExchangeState> states, std::vector<Part>* parts) const;

  const std::vector<ExchangeSpec> specs_;
  const ExchangesContext context_;
  std::vector<std::unique_ptr<Row>> rows_;
  std::vector<Round> rounds_;
  Report report_;
  double spread_ = 0, squares_ = 0;  // Of what report_ is about, on this rank.
  int64_t steps_done_ = 0;
  std::vector<int64_t> exchanged_at_;  // By parameter: after how many steps.
  std::vector<bool> agrees_;           // By parameter: whether all replicas have the same.
};

}  // namespace trireme
