#include "launch/rank_plan.h"

#include <map>
#include <memory>

#include "absl/strings/str_cat.h"

#include "core/base/share.h"
#include "launch/config.h"
#include "launch/scan_choice.h"
#include "launch/trained_parameters.h"
#include "parallel/pipeline/lower.h"
#include "parallel/sequence/kv_traffic.h"
#include "parallel/sequence/recurrence_traffic.h"

namespace trireme {
namespace {

// A group of ranks as one of them sees it.
struct Group {
  std::string name;
  Place place;
};

// The elements of each owner's rows.
std::vector<int64_t> OwnerCounts(const Shape& local, int owners) {
  const int64_t row = local.numel() / std::max<int64_t>(1, local[0]);
  std::vector<int64_t> counts;
  for (int i = 0; i < owners; ++i) counts.push_back(ShareOf(local[0], i, owners).size() * row);
  return counts;
}

// Walks through the program of one rank as the executor does, with sizes in place of tensors.
class StepWalk {
 public:
  StepWalk(const RunConfig& config, const Mesh& mesh, int rank, const Model& model,
           const SequenceAxis& sequence, int64_t sample_tokens, DType dtype)
      : config_(config),
        mesh_(mesh),
        rank_(rank),
        model_(model),
        sequence_(sequence),
        sample_tokens_(sample_tokens),
        dtype_(dtype),
        master_(AccumulationType(dtype)),
        parameters_(model.parameters().parameters()),
        owners_(Over(kOwnerAxes)),
        zero_stage_(owners_.place.size == 1 ? 0 : static_cast<int>(config.mesh().zero_stage())),
        holders_(parameters_.size()),
        prefetched_(model.num_units()),
        states_(parameters_.size()) {
    for (const auto& parameter : parameters_) {
      counts_.push_back(OwnerCounts(parameter->spec.local.size, owners_.place.size));
    }
  }

  // What adding gradients up over the replicas sends goes to `added` when that is not null.
  RankPlan Walk(const LoweredPlan& plan, const std::vector<std::pair<int, int>>& stages,
                absl::Span<const WorkItem> items, Traffic* added) {
    RankPlan result;
    const int stage_rank = mesh_.Coordinate(rank_, Axis::kPipeline);
    for (int stage = 0; stage < plan.num_stages(); ++stage) {
      if (plan.rank_of_stage[stage] == stage_rank) result.stages.push_back(stages[stage]);
    }
    for (size_t i = 0; i < parameters_.size(); ++i) {
      result.working_elements += parameters_[i]->spec.local.numel();
      result.owned_elements += Owned(i);
    }
    if (!items.empty()) {
      for (const LoweredAction& action : plan.programs[stage_rank]) {
        Run(action, stages[action.stage], items[action.micro_batch]);
      }
    }
    FinishGradients(plan, added == nullptr ? traffic_ : *added);
    FinishStep(added == nullptr ? traffic_ : *added);
    result.step = std::move(traffic_);
    return result;
  }

 private:
  Group Over(AxisSet axes) const {
    return {axes.ToString(), {mesh_.IndexIn(axes, rank_), mesh_.size(axes)}};
  }
  int64_t Owned(int i) const { return counts_[i][owners_.place.rank]; }

  void AllReduce(const Group& group, const char* purpose, int64_t count, DType dtype) {
    AllReduce(group, purpose, count, dtype, traffic_);
  }
  static void AllReduce(const Group& group, const char* purpose, int64_t count, DType dtype,
                        Traffic& traffic) {
    if (group.place.size == 1) return;
    traffic.Add(group.name, purpose, Verb::kAllReduce, group.place.size,
                AllReduceBytes(group.place, count, dtype, CommOptions().block_bytes));
  }

  // Of each rank of the sequence axis.
  struct Tokens {
    std::vector<std::vector<Segment>> segments;
    std::vector<int64_t> counts;
  };
  Tokens TokensOf(const WorkItem& item) const {
    std::vector<Segment> samples;
    for (const int64_t sample : item.samples) samples.push_back({sample, 0, sample_tokens_});
    Tokens tokens = {CutSegments(samples, sequence_.plan().cut, sequence_.size()), {}};
    for (const auto& part : tokens.segments) tokens.counts.push_back(NumTokens(part));
    return tokens;
  }

  void Run(const LoweredAction& action, std::pair<int, int> units, const WorkItem& item) {
    const Tokens tokens = TokensOf(item);
    const auto [begin, end] = units;
    switch (action.kind) {
      case LoweredKind::F:
        for (int unit = begin; unit < end && unit + 1 < model_.num_units(); ++unit) {
          Gather(unit, unit + 1 < end ? unit + 1 : -1);
          RunUnit(unit, tokens, Pass::kForward);
        }
        return;
      case LoweredKind::I:
      case LoweredKind::B:
        for (int unit = end - 1; unit >= begin; --unit) {
          Gather(unit, unit > begin ? unit - 1 : -1);
          // The executor runs the last unit's forward with its backward.
          if (config_.recompute() || unit + 1 == model_.num_units()) {
            RunUnit(unit, tokens, Pass::kForward);
          }
          RunUnit(unit, tokens, Pass::kBackward);
          if (action.kind == LoweredKind::B) UnitDone(unit);
        }
        return;
      case LoweredKind::W:
        for (int unit = end - 1; unit >= begin; --unit) UnitDone(unit);
        return;
      case LoweredKind::SendActivation:
        return Send("activations", end, tokens.counts);
      case LoweredKind::SendGradient:
        return Send("activation gradients", begin, tokens.counts);
      case LoweredKind::RecvActivation:
      case LoweredKind::RecvGradient:
        return;
    }
  }

  void Send(const char* purpose, int unit, const std::vector<int64_t>& tokens) {
    const int64_t bytes =
        model_.HiddenShape(unit, tokens[sequence_.rank()]).numel() * DTypeSize(dtype_);
    traffic_.Add(AxisName(Axis::kPipeline), purpose, Verb::kSend, mesh_.size(Axis::kPipeline),
                 bytes);
  }

  void RunUnit(int unit, const Tokens& tokens, Pass pass) {
    UnitTraffic said;
    model_.AddTraffic(unit, &said);
    for (const RowTransfer& transfer : said.rows) {
      if (transfer.backward == (pass == Pass::kBackward))
        MoveRows(transfer, tokens.counts[sequence_.rank()]);
    }
    if (sequence_.size() == 1) return;
    for (const AttentionHeads& heads : said.attention) {
      AddKvTraffic(sequence_.plan(), heads, tokens.counts, sequence_.rank(), dtype_, pass,
                   &traffic_);
    }
    for (const RecurrenceHeads& heads : said.recurrences) {
      if (pass == Pass::kBackward && !heads.backward) continue;
      AddScanTraffic(sequence_.scan_plan(), sequence_.plan().cut, heads, tokens.segments,
                     sequence_.rank(), dtype_, pass, &traffic_);
    }
    for (const HaloRows& halo : said.halos) {
      AddHaloTraffic(halo, tokens.segments, sequence_.rank(), dtype_, pass, &traffic_);
    }
  }

  void MoveRows(const RowTransfer& transfer, int64_t n) {
    const Group tensor = Over(Axis::kTensor);
    const DType dtype = transfer.accumulated ? master_ : dtype_;
    std::vector<int64_t> counts;
    for (int i = 0; i < tensor.place.size; ++i) {
      counts.push_back(ShareOf(n, i, tensor.place.size).size() * transfer.width);
    }
    const int64_t chunk = transfer.chunk_rows > 0 ? transfer.chunk_rows : std::max<int64_t>(1, n);
    switch (transfer.kind) {
      case RowTransfer::Kind::kAllReduce:
        if (transfer.chunk_rows == 0)
          return AllReduce(tensor, transfer.purpose, n * transfer.width, dtype);
        for (int64_t begin = 0; begin < n; begin += chunk) {
          AllReduce(tensor, transfer.purpose, std::min(chunk, n - begin) * transfer.width, dtype);
        }
        return;
      case RowTransfer::Kind::kReduceScatter:
        return traffic_.Add(tensor.name, transfer.purpose, Verb::kReduceScatter, tensor.place.size,
                            ReduceScatterBytes(tensor.place, counts, dtype));
      case RowTransfer::Kind::kAllGather:
        return traffic_.Add(tensor.name, transfer.purpose, Verb::kAllGather, tensor.place.size,
                            AllGatherBytes(tensor.place, counts, dtype));
    }
  }

  // The calls of ShardedParameters around a unit.
  void Gather(int unit, int next) {
    if (zero_stage_ != 3) return;
    const auto prefetch = [&](int wanted) {
      if (wanted < 0 || prefetched_[wanted]) return;
      prefetched_[wanted] = true;
      ForEachUsed(wanted, [&](int i) {
        if (holders_[i]++ == 0) GatherParameter(i);
      });
    };
    prefetch(unit);
    prefetched_[unit] = false;
    prefetch(next);
    ForEachUsed(unit, [&](int i) { --holders_[i]; });
  }

  void GatherParameter(int i) {
    traffic_.Add(owners_.name, "parameters", Verb::kAllGather, owners_.place.size,
                 AllGatherBytes(owners_.place, counts_[i], dtype_));
  }

  template <typename Fn>
  void ForEachUsed(int unit, const Fn& fn) const {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      for (const int used : parameters_[i]->units) {
        if (used == unit) fn(static_cast<int>(i));
      }
    }
  }

  // From stage 2 on, the gradients of each micro-batch go to their owners once its first unit is
  // done.
  void UnitDone(int unit) {
    if (zero_stage_ < 2) return;
    ForEachUsed(unit, [&](int i) {
      if (parameters_[i]->spec.frozen) return;
      states_[i] = GradientState::kHere;
      if (parameters_[i]->unit() == unit) SendToOwners(i);
    });
  }

  void SendToOwners(int i) {
    states_[i] = GradientState::kSent;
    traffic_.Add(owners_.name, "gradients to owners", Verb::kReduceScatter, owners_.place.size,
                 ReduceScatterBytes(owners_.place, counts_[i], master_));
  }

  void FinishGradients(const LoweredPlan& plan, Traffic& over_replicas) {
    const int tensor = mesh_.size(Axis::kTensor);
    const int tied_from = plan.rank_of_stage.front(), tied_to = plan.rank_of_stage.back();
    const std::vector<GradientBucket> buckets =
        MakeGradientBuckets(model_.parameters(), owners_.place.size, tensor, DTypeSize(master_),
                            config_.bucket_bytes());
    for (const GradientBucket& bucket : buckets) {
      int64_t elements = 0;
      for (const int i : bucket.parameters) {
        const ParamSpec& spec = parameters_[i]->spec;
        if (zero_stage_ > 0 && states_[i] != GradientState::kSent) SendToOwners(i);
        if (spec.partial_grad.Contains(Axis::kTensor)) {
          AllReduce(Over(Axis::kTensor), "partial gradients", Owned(i), master_);
        }
        if (spec.copies > 1) {
          AllReduce({absl::StrCat(AxisName(Axis::kTensor), ".inner", spec.copies),
                     {mesh_.Coordinate(rank_, Axis::kTensor) % spec.copies, spec.copies}},
                    "gradients of copies", Owned(i), master_);
        }
        if (bucket.tied && tied_from != tied_to) {
          const int second =
              mesh_.Coordinate(rank_, Axis::kPipeline) == std::max(tied_from, tied_to);
          AllReduce({"pipeline.tied", {second, 2}}, "tied gradients", Owned(i), master_);
        }
        elements += Owned(i);
      }
      AllReduce(Over(Axis::kReplica), "gradients", elements, master_, over_replicas);
    }
  }

  void FinishStep(Traffic& over_replicas) {
    AllReduce(Over(kLossAxes), "loss", 3, DType::kF64);
    AllReduce(Over(Axis::kReplica), "loss", 3, DType::kF64, over_replicas);
    AllReduce(Over(kReplicaAxes), "gradient norm", 1, DType::kF64);
    for (size_t i = 0; i < parameters_.size() && (zero_stage_ == 1 || zero_stage_ == 2); ++i) {
      GatherParameter(i);
    }
  }

  enum class GradientState { kUntouched, kHere, kSent };

  const RunConfig& config_;
  const Mesh& mesh_;
  const int rank_;
  const Model& model_;
  const SequenceAxis& sequence_;
  const int64_t sample_tokens_;  // An image is one token.
  const DType dtype_, master_;
  const std::vector<std::unique_ptr<Parameter>>& parameters_;
  const Group owners_;
  const int zero_stage_;                      // 0: nobody to share with.
  std::vector<std::vector<int64_t>> counts_;  // By parameter: elements of each owner.
  std::vector<int> holders_;
  std::vector<bool> prefetched_;  // By unit.
  std::vector<GradientState> states_;
  Traffic traffic_;
};

class Planner {
 public:
  Planner(const RunConfig& config, const DataShape& data, const Mesh& mesh, DType dtype,
          const ExchangePlanner& exchanges)
      : config_(config), data_(data), mesh_(mesh), dtype_(dtype), exchanges_(exchanges) {}

  StatusOr<RankPlan> PlanRank(int rank) {
    const int size = mesh_.size(Axis::kSequence);
    RETURN_IF_ERROR(CheckSequenceAxis(config_, data_.vocab_size > 0));
    const ComponentConfig method = ToComponentConfig(config_.kv_exchange());
    const ComponentConfig scan = ToComponentConfig(config_.scan());
    ASSIGN_OR_RETURN(
        SequenceAxis axis,
        SequenceAxis::Declare(method.name, method.params, mesh_.Coordinate(rank, Axis::kSequence),
                              size, {scan.name, scan.params}));
    const auto sequence = std::make_shared<const SequenceAxis>(std::move(axis));
    const TensorAxis tensor = {mesh_.Coordinate(rank, Axis::kTensor), mesh_.size(Axis::kTensor),
                               nullptr, config_.mesh().sharded_stream()};
    ASSIGN_OR_RETURN(const auto model,
                     MakeModel(ToComponentConfig(config_.model()), data_, {tensor, sequence}));
    RETURN_IF_ERROR(ChooseTrained(config_, model->parameters()));

    const AxisSet shares = {Axis::kReplica, Axis::kShard};
    const AllReduceOptions batch = {config_.batch().global_batch_size(),
                                    config_.batch().micro_batch_size()};
    const std::vector<WorkItem> items =
        MicroBatches(batch, mesh_.IndexIn(shares, rank), mesh_.size(shares), 0);
    ASSIGN_OR_RETURN(const LoweredPlan* plan, ProgramFor(static_cast<int>(items.size())));
    ASSIGN_OR_RETURN(
        const std::vector<int> counts,
        UnitsOfStages(config_.mesh().units_of_stage(), model->num_units(), plan->num_stages()));
    std::vector<std::pair<int, int>> stages;
    std::vector<int> rank_of_unit;
    for (int stage = 0; stage < plan->num_stages(); ++stage) {
      const int begin = static_cast<int>(rank_of_unit.size());
      stages.push_back({begin, begin + counts[stage]});
      rank_of_unit.insert(rank_of_unit.end(), counts[stage], plan->rank_of_stage[stage]);
    }
    const int stage_rank = mesh_.Coordinate(rank, Axis::kPipeline);
    model->parameters().KeepUnits([&](int unit) { return rank_of_unit[unit] == stage_rank; });
    const int64_t sample_tokens = data_.vocab_size > 0 ? config_.data().sequence_length() : 1;
    StepWalk walk(config_, mesh_, rank, *model, *sequence, sample_tokens, dtype_);
    const bool data_parallel = exchanges_.is_data_parallel();
    Traffic added;
    RankPlan result = walk.Walk(*plan, stages, items, data_parallel ? nullptr : &added);
    if (!data_parallel) RETURN_IF_ERROR(AddExchanges(rank, model->parameters(), added, &result));
    if (!items.empty()) {
      result.scan_choice = ScanChoiceInWords(config_, *model, *sequence, items[0].samples.size());
    }
    return result;
  }

 private:
  Status AddExchanges(int rank, const ParameterSet& parameters, const Traffic& added,
                      RankPlan* result) {
    const ExchangePlanner::Added steps = exchanges_.GradientsAddedUp();
    if (steps.num_steps > 0) {
      ExchangeTraffic traffic = {steps.row, steps.num_steps, added};
      for (auto& [key, entry] : traffic.sent.entries) {
        entry.calls *= steps.num_steps;
        entry.sent_bytes *= steps.num_steps;
      }
      result->exchanges.push_back(std::move(traffic));
    }
    RETURN_IF_ERROR(DeclareCuts());
    const auto box = [&](int parameter, int of_rank) {
      const auto& cut = cuts_[mesh_.Coordinate(of_rank, Axis::kTensor)];
      Box owned = cut.at(parameters.parameters()[parameter]->spec.path);
      const Share rows =
          ShareOf(owned.size[0], mesh_.IndexIn(kOwnerAxes, of_rank), mesh_.size(kOwnerAxes));
      owned.begin[0] += rows.first;
      owned.size[0] = rows.size();
      return owned;
    };
    ASSIGN_OR_RETURN(const std::vector<ExchangeTraffic> planned,
                     exchanges_.Plan(rank, parameters, box));
    result->exchanges.insert(result->exchanges.end(), planned.begin(), planned.end());
    return absl::OkStatus();
  }

  // What each rank of the tensor axis has of a parameter.
  Status DeclareCuts() {
    const int size = mesh_.size(Axis::kTensor);
    for (int rank = static_cast<int>(cuts_.size()); rank < size; ++rank) {
      const TensorAxis tensor = {rank, size, nullptr, config_.mesh().sharded_stream()};
      ASSIGN_OR_RETURN(const auto model,
                       MakeModel(ToComponentConfig(config_.model()), data_, {tensor}));
      RETURN_IF_ERROR(ChooseTrained(config_, model->parameters()));
      auto& cut = cuts_.emplace_back();
      for (const auto& parameter : model->parameters().parameters()) {
        cut[parameter->spec.path] = parameter->spec.local;
      }
    }
    return absl::OkStatus();
  }

  StatusOr<const LoweredPlan*> ProgramFor(int num_items) {
    const auto it = plans_.find(num_items);
    if (it != plans_.end()) return &it->second;
    const ComponentConfig schedule = ToComponentConfig(config_.pipeline_schedule());
    ASSIGN_OR_RETURN(const Plan plan, MakePlan(schedule.name, mesh_.size(Axis::kPipeline),
                                               std::max(1, num_items), schedule.params));
    return &(plans_[num_items] = Lower(plan));
  }

  const RunConfig& config_;
  const DataShape& data_;
  const Mesh& mesh_;
  const DType dtype_;
  const ExchangePlanner& exchanges_;
  std::map<int, LoweredPlan> plans_;  // By the number of items.
  std::vector<std::map<std::string, Box>> cuts_;
};

}  // namespace

StatusOr<std::vector<RankPlan>> PlanRanks(const RunConfig& config, const DataShape& data) {
  const RunConfig::Mesh& axes = config.mesh();
  const int64_t num_ranks =
      axes.replica() * axes.pipeline() * axes.shard() * axes.sequence() * axes.tensor();
  ASSIGN_OR_RETURN(const Mesh mesh, MeshOf(config, static_cast<int>(num_ranks)));
  ASSIGN_OR_RETURN(const DType dtype, ComputeDType(config.dtype()));
  ASSIGN_OR_RETURN(const ExchangePlanner exchanges, ExchangePlanner::Create(config, mesh));
  Planner planner(config, data, mesh, dtype, exchanges);
  std::vector<RankPlan> ranks;
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    ASSIGN_OR_RETURN(RankPlan plan, planner.PlanRank(rank));
    ranks.push_back(std::move(plan));
  }
  return ranks;
}

}  // namespace trireme
