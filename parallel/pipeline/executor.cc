#include "parallel/pipeline/executor.h"

#include <algorithm>
#include <deque>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/autograd/node.h"
#include "core/base/log.h"
#include "core/base/share.h"
#include "parallel/pipeline/verify.h"

namespace trireme {
namespace {

// Adds the time of a scope to a total.
class Timed {
 public:
  explicit Timed(absl::Duration& total) : total_(total) {}
  ~Timed() { total_ += absl::Now() - start_; }

 private:
  absl::Duration& total_;
  const absl::Time start_ = absl::Now();
};

// A unit of one micro-batch, between its forward and its backward.
struct UnitPass {
  GraphCut input;
  Tensor output;  // Undefined when it is to be computed again.
  DeferredWeights weights;
};

using StageOfItem = std::pair<int, int>;

// To each neighbour, one on its way and one behind it.
constexpr size_t kSendsInFlight = 4;

// A tensor from another rank, or from a stage of this one.
struct Arrival {
  Tensor tensor;
  std::unique_ptr<Work> work;
};

}  // namespace

// One round on one rank. Throws Failure.
class Executor::Round {
 public:
  // exchange: nullptr to evaluate, and then `score` has the last unit.
  Round(Executor& executor, const LoweredPlan& plan, absl::Span<const WorkItem> items,
        const LoadFn& load, const ForwardContext& context, GradientExchange* exchange,
        const ScoreFn* score)
      : executor_(executor),
        plan_(plan),
        rank_(executor.rank()),
        model_(executor.model_),
        items_(items),
        load_(load),
        context_(context),
        exchange_(exchange),
        score_(score),
        batches_(items.size()),
        batch_uses_(items.size(), std::count(plan.rank_of_stage.begin(), plan.rank_of_stage.end(),
                                             executor.rank())) {
    for (const WorkItem& item : items) {
      const int num_sinks = item.sink + 1;
      report_.losses.resize(std::max<int>(num_sinks, report_.losses.size()));
      waiting_.resize(report_.losses.size());
      waiting_[item.sink].resize(model_.num_units());
      for (int& count : waiting_[item.sink]) ++count;
    }
    if (report_.losses.empty()) report_.losses.resize(1);
  }

  RoundReport Run() {
    for (const LoweredAction& action : plan_.programs[rank_]) RunAction(action);
    const Timed timed(report_.wait);
    for (const Sent& sent : sends_) sent.work->Join(sent.device->compute());
    return std::move(report_);
  }

 private:
  void RunAction(const LoweredAction& action) {
    const StageOfItem at = {action.stage, action.micro_batch};
    switch (action.kind) {
      case LoweredKind::F:
        return Forward(at);
      case LoweredKind::I:
        return Backward(at, /*split=*/true);
      case LoweredKind::B:
        return Backward(at, /*split=*/false);
      case LoweredKind::W:
        return Weights(at);
      case LoweredKind::RecvActivation:
        return Receive(activations_[at], UnitsOf(at).begin, at, action.peer, "activations");
      case LoweredKind::RecvGradient:
        return Receive(gradients_[at], UnitsOf(at).end, at, action.peer, "activation gradients");
      case LoweredKind::SendActivation:
        return Send(action.peer, "activations");
      case LoweredKind::SendGradient:
        return Send(action.peer, "activation gradients");
    }
  }

  UnitRange UnitsOf(const StageOfItem& at) const { return executor_.stages_[at.first]; }
  bool IsLast(const StageOfItem& at) const { return at.first + 1 == executor_.num_stages(); }

  const Batch& BatchOf(int item) {
    for (; num_loaded_ <= item; ++num_loaded_) {
      const Timed timed(report_.load);
      batches_[num_loaded_] = ValueOrThrow(load_(items_[num_loaded_]));
    }
    return batches_[item];
  }

  ForwardContext ContextOf(int item) {
    ForwardContext context = context_;
    context.layout = BatchOf(item).layout;
    return context;
  }

  void Receive(Arrival& arrival, int unit, const StageOfItem& at, int peer, const char* purpose) {
    const Batch& batch = BatchOf(at.second);
    const Shape shape = model_.HiddenShape(unit, batch.inputs.dim(0));
    CHECK_GT(shape.rank(), 0) << "the model does not say the shape of what enters unit " << unit;
    arrival.tensor =
        Tensor::Empty(batch.inputs.device(), shape, model_.parameters().compute_dtype(),
                      MemoryKind::kActivations, purpose);
    arrival.work = executor_.pipeline_.pipeline->Recv(arrival.tensor, peer, {.purpose = purpose});
  }

  void Send(int peer, const char* purpose) {
    // Plans end even where each send waits (verify.h), so to wait for old ones is safe; their
    // tensors go.
    if (sends_.size() == kSendsInFlight) {
      const Timed timed(report_.wait);
      sends_.front().work->Join(sends_.front().device->compute());
      sends_.pop_front();
    }
    sends_.push_back(
        {executor_.pipeline_.pipeline->Send(result_.Contiguous(), peer, {.purpose = purpose}),
         &result_.device()});
    result_ = Tensor();
  }

  // What the stage `at` waits for.
  Tensor Take(std::map<StageOfItem, Arrival>& arrivals, const StageOfItem& at) {
    const auto it = arrivals.find(at);
    CHECK(it != arrivals.end()) << "stage " << at.first << " has no input for micro-batch "
                                << at.second;
    const Arrival arrival = std::move(it->second);
    arrivals.erase(it);
    const Timed timed(report_.wait);
    if (arrival.work != nullptr) arrival.work->Join(arrival.tensor.device().compute());
    return arrival.tensor;
  }

  // For stage `to`: on this rank, or the send that comes next takes it away.
  void HandOver(std::map<StageOfItem, Arrival>& arrivals, const StageOfItem& to, Tensor tensor) {
    result_ = tensor;
    if (plan_.rank_of_stage[to.first] == rank_) arrivals[to] = {std::move(tensor), nullptr};
  }

  void Acquire(int unit, int next) {
    if (executor_.sharding_ == nullptr) return;
    const Timed timed(report_.wait);
    executor_.sharding_->Acquire(unit);
    executor_.sharding_->Prefetch(next);
  }
  void Release(int unit) {
    if (executor_.sharding_ != nullptr) executor_.sharding_->Release(unit);
  }

  void Forward(const StageOfItem& at) {
    const Batch batch = BatchOf(at.second);
    const ForwardContext context = ContextOf(at.second);
    const UnitRange units = UnitsOf(at);
    Tensor hidden = units.begin == 0 ? Tensor() : Take(activations_, at);
    const Timed timed(report_.forward);
    std::vector<UnitPass>& passes = passes_[at];
    for (int unit = units.begin; unit < units.end; ++unit) {
      const bool is_loss = unit + 1 == model_.num_units();
      if (is_loss && score_ == nullptr) {
        passes.emplace_back().input = GraphCut(hidden);  // See RunLoss.
        break;
      }
      Acquire(unit, unit + 1 < units.end ? unit + 1 : -1);
      if (is_loss) {
        (*score_)(hidden, batch, context);
      } else if (score_ != nullptr) {
        hidden = model_.RunUnit(unit, hidden, batch, context);
      } else {
        passes.push_back(RunUnit(unit, hidden, batch, context, &hidden));
      }
      if (!is_loss && executor_.probe_ != nullptr) executor_.probe_(unit, hidden, batch);
      Release(unit);
    }
    if (score_ != nullptr) DoneWith(at);
    if (!IsLast(at)) HandOver(activations_, {at.first + 1, at.second}, hidden.Detach());
  }

  UnitPass RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                   const ForwardContext& context, Tensor* output) {
    UnitPass pass;
    pass.input = GraphCut(hidden);
    if (executor_.options_.recompute) {
      const NoGrad no_grad;
      *output = model_.RunUnit(unit, pass.input.tensor(), batch, context);
    } else {
      *output = pass.output = model_.RunUnit(unit, pass.input.tensor(), batch, context);
    }
    return pass;
  }

  // The forward of the last unit, put off until its backward: it makes the gradient of the head,
  // which would otherwise exist once for each micro-batch in flight. Returns the gradient of the
  // loss.
  Tensor RunLoss(const StageOfItem& at) {
    ThrowIfError(exchange_->Settle());
    const WorkItem& item = items_[at.second];
    const Batch& batch = batches_[at.second];
    const int unit = model_.num_units() - 1;
    UnitPass& pass = passes_[at].back();
    const Timed timed(report_.forward);
    pass.output = model_.RunUnit(unit, pass.input.tensor(), batch, ContextOf(at.second));
    const Tensor& loss = pass.output;
    report_.losses[item.sink].Add({item.weight * loss.Item(), batch.num_targets, batch.num_bytes});
    return Tensor::Full(loss.device(), loss.shape(), loss.dtype(), item.weight);
  }

  void Backward(const StageOfItem& at, bool split) {
    const WorkItem& item = items_[at.second];
    const UnitRange units = UnitsOf(at);
    std::vector<UnitPass>& passes = passes_[at];
    const auto acquire = [&](int unit) { Acquire(unit, unit > units.begin ? unit - 1 : -1); };
    acquire(units.end - 1);
    Tensor grad = IsLast(at) ? RunLoss(at) : Take(gradients_, at);
    const Timed timed(report_.backward);
    for (int unit = units.end - 1; unit >= units.begin; --unit) {
      UnitPass& pass = passes[unit - units.begin];
      if (unit + 1 < units.end) acquire(unit);
      if (!pass.output.defined()) {
        pass.output =
            model_.RunUnit(unit, pass.input.tensor(), batches_[at.second], ContextOf(at.second));
      }
      const Tensor output = std::exchange(pass.output, Tensor());
      if (output.requires_grad()) {  // Else all of the unit, the first, is frozen.
        trireme::Backward({output}, {grad}, exchange_->sink(item.sink),
                          split ? &pass.weights : nullptr);
      }
      grad = pass.input.TakeGrad();
      if (unit > 0 && !grad.defined()) {
        const Tensor& input = pass.input.tensor();
        grad = Tensor::Zeros(input.device(), input.shape(), input.dtype());
      }
      pass.input = GraphCut();
      Release(unit);
      if (!split) UnitDone(unit, item.sink);
    }
    if (!split) DoneWith(at);
    if (at.first > 0) HandOver(gradients_, {at.first - 1, at.second}, grad);
  }

  void Weights(const StageOfItem& at) {
    const Timed timed(report_.backward);
    const WorkItem& item = items_[at.second];
    const UnitRange units = UnitsOf(at);
    for (int unit = units.end - 1; unit >= units.begin; --unit) {
      passes_[at][unit - units.begin].weights.Run(exchange_->sink(item.sink));
      UnitDone(unit, item.sink);
    }
    DoneWith(at);
  }

  void DoneWith(const StageOfItem& at) {
    passes_.erase(at);
    if (--batch_uses_[at.second] == 0) batches_[at.second] = Batch();
  }

  void UnitDone(int unit, int sink) {
    ThrowIfError(exchange_->UnitDone(sink, unit, --waiting_[sink][unit] == 0));
  }

  Executor& executor_;
  const LoweredPlan& plan_;
  const int rank_;
  Model& model_;
  const absl::Span<const WorkItem> items_;
  const LoadFn& load_;
  const ForwardContext& context_;
  GradientExchange* const exchange_;
  const ScoreFn* const score_;
  RoundReport report_;
  std::vector<std::vector<int>>
      waiting_;  // By sink and unit: items that will add to its gradients yet.
  std::vector<Batch> batches_;
  std::vector<int> batch_uses_;  // Stages of this rank that need the batch yet.
  int num_loaded_ = 0;
  std::map<StageOfItem, std::vector<UnitPass>> passes_;
  std::map<StageOfItem, Arrival> activations_, gradients_;
  Tensor result_;  // Of the last action, for the send that follows it.
  struct Sent {
    std::unique_ptr<Work> work;
    Device* device;
  };
  std::deque<Sent> sends_;
};

Executor::Executor(Model& model, const ExecutorOptions& options, PipelineOptions pipeline,
                   ShardedParameters* sharding)
    : model_(model), options_(options), pipeline_(std::move(pipeline)), sharding_(sharding) {
  std::vector<int> units = pipeline_.units_of_stage;
  if (units.empty()) units = {model.num_units()};
  int begin = 0;
  for (const int count : units) {
    stages_.push_back({begin, begin + count});
    begin += count;
  }
  CHECK_EQ(begin, model.num_units()) << "units in " << units.size() << " stages";
}

int Executor::rank() const {
  return pipeline_.pipeline == nullptr ? 0 : pipeline_.pipeline->rank();
}
int Executor::num_ranks() const {
  return pipeline_.pipeline == nullptr ? 1 : pipeline_.pipeline->size();
}

StatusOr<const LoweredPlan*> Executor::PlanFor(int num_items) {
  const auto it = plans_.find(num_items);
  if (it != plans_.end()) return &it->second;
  ASSIGN_OR_RETURN(const Plan plan,
                   MakePlan(pipeline_.schedule, num_ranks(), num_items, pipeline_.schedule_params));
  CHECK_EQ(plan.num_stages(), num_stages()) << pipeline_.schedule;
  LoweredPlan lowered = Lower(plan);
  RETURN_IF_ERROR(Verify(lowered));
  return &(plans_[num_items] = std::move(lowered));
}

StatusOr<RoundReport> Executor::Run(absl::Span<const WorkItem> items, const LoadFn& load,
                                    const ForwardContext& context, GradientExchange& exchange) {
  exchange.Reset();
  RoundReport report;
  report.losses.resize(1);
  if (items.empty()) return report;
  ASSIGN_OR_RETURN(const LoweredPlan* plan, PlanFor(static_cast<int>(items.size())));
  RETURN_IF_ERROR(CatchFailure(
      [&] { report = Round(*this, *plan, items, load, context, &exchange, nullptr).Run(); }));
  return report;
}

Status Executor::Evaluate(absl::Span<const WorkItem> items, const LoadFn& load,
                          const ForwardContext& context, const ScoreFn& score) {
  if (items.empty()) return absl::OkStatus();
  // The stages of training, forward only: each micro-batch goes down all of them in turn.
  ASSIGN_OR_RETURN(const LoweredPlan* training, PlanFor(static_cast<int>(items.size())));
  Plan plan{*training, std::vector<std::vector<Action>>(num_ranks())};
  for (int item = 0; item < static_cast<int>(items.size()); ++item) {
    for (int stage = 0; stage < plan.num_stages(); ++stage) {
      plan.orders[plan.rank_of_stage[stage]].push_back({ActionKind::F, stage, item});
    }
  }
  return CatchFailure([&] {
    const NoGrad no_grad;
    Round(*this, Lower(plan), items, load, context, nullptr, &score).Run();
  });
}

std::vector<int> EvenStages(int num_units, int num_stages) {
  std::vector<int> units;
  for (int stage = 0; stage < num_stages; ++stage) {
    units.push_back(static_cast<int>(ShareOf(num_units, stage, num_stages).size()));
  }
  return units;
}

}  // namespace trireme
