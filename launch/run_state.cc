#include "launch/run_state.h"

#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "launch/agreement.h"
#include "launch/checkpoint/checkpoint_reader.h"
#include "launch/config.h"

namespace trireme {
std::vector<SavedTensor> ParameterTensors(const ParameterSet& parameters) {
  std::vector<SavedTensor> tensors;
  for (const auto& parameter : parameters.parameters()) {
    const ParamSpec& spec = parameter->spec;
    tensors.push_back({spec.path, spec.global, parameter->owned_box, parameter->owned});
  }
  return tensors;
}

std::vector<StateTensor> StateTensors(Trainer& trainer) {
  std::vector<StateTensor> tensors;
  const ParameterSet& parameters = trainer.model().parameters();
  Exchanges& exchanges = trainer.exchanges();
  const bool local_steps = exchanges.has_local_steps(), agree = exchanges.in_agreement();
  // Where replicas are parts of a mean, the mean can go on; in the middle of a round they are not.
  const ReplicaPolicy parameter_policy =
      exchanges.at_round_end() ? ReplicaPolicy::kMean : ReplicaPolicy::kRefuse;
  std::map<const Parameter*, int> index;
  for (SavedTensor& tensor : ParameterTensors(parameters)) {
    const int i = static_cast<int>(tensors.size());
    index[parameters.parameters()[i].get()] = i;
    tensors.push_back({std::move(tensor), i, !agree, parameter_policy});
  }
  for (const ParameterUpdate::State& state : trainer.update().States()) {
    const ParamSpec& spec = state.parameter->spec;
    tensors.push_back({{absl::StrCat(spec.path, "/", state.name), spec.global,
                        state.parameter->owned_box, state.value},
                       index.at(state.parameter),
                       local_steps,
                       ReplicaPolicy::kMean});
  }
  const absl::Span<const Tensor> personal = trainer.local_step().personal();
  for (size_t i = 0; i < personal.size(); ++i) {
    if (!personal[i].defined()) continue;
    const Parameter& parameter = *parameters.parameters()[i];
    tensors.push_back({{absl::StrCat(parameter.spec.path, "/personal"), parameter.spec.global,
                        parameter.owned_box, personal[i]},
                       static_cast<int>(i),
                       /*of_replica=*/true,
                       ReplicaPolicy::kMean});
  }
  for (const Exchanges::Part& part : exchanges.Parts()) {
    const ReplicaPolicy policy = part.resize == ExchangeState::Resize::kSumOverN
                                     ? ReplicaPolicy::kSumOverN
                                     : ReplicaPolicy::kMean;
    tensors.push_back({{part.name, part.global, part.local, part.data},
                       part.parameter,
                       part.of_replica,
                       policy,
                       part.is_cut_by_replica});
  }
  return tensors;
}

namespace {

// With the replicas in front.
SavedTensor OfReplica(const SavedTensor& tensor, ReplicaPolicy policy, int replica,
                      int num_replicas) {
  const auto prepend = [](int64_t dim, const Shape& shape) {
    Shape result({dim});
    for (const int64_t size : shape.dims()) result.Append(size);
    return result;
  };
  SavedTensor result = tensor;
  result.global = prepend(num_replicas, tensor.global);
  result.local = {prepend(replica, tensor.local.begin), prepend(1, tensor.local.size)};
  result.data = tensor.data.WithShape(result.local.size);
  result.policy = policy;
  return result;
}

}  // namespace

std::vector<SavedTensor> TensorsToWrite(Trainer& trainer) {
  const ModelMesh& mesh = trainer.mesh();
  const int tensor_rank = mesh.Coordinate(Axis::kTensor);
  const int replica = mesh.Coordinate(Axis::kReplica),
            num_replicas = mesh.mesh().size(Axis::kReplica);
  const ReplicaGroups inside = mesh.inside();
  const auto& parameters = trainer.model().parameters().parameters();
  std::vector<SavedTensor> mine;
  int next = 0;
  for (const StateTensor& tensor : StateTensors(trainer)) {
    const bool counted = tensor.parameter < 0
                             ? ReplicaGroups::RankIn(inside.whole) == 0
                             : IsCounted(*parameters[tensor.parameter], tensor_rank);
    if (!counted) continue;
    if (tensor.of_replica) {
      mine.push_back(OfReplica(tensor.saved, tensor.policy, replica, num_replicas));
    } else if (tensor.is_cut_by_replica || next++ % num_replicas == replica) {
      mine.push_back(tensor.saved);
    }
  }
  return mine;
}

CheckpointGroup MakeCheckpointGroup(Communicator& world) {
  return {world.rank(), world.size(),
          [&world](const std::string& mine) { return GatherTexts(world, mine); },
          [&world](const std::string& text) { return BroadcastText(world, text); }};
}

CheckpointInfo MakeCheckpointInfo(const Trainer& trainer, const RunConfig& config,
                                  uint64_t dataset_fingerprint) {
  CheckpointInfo info;
  info.step = trainer.step();
  info.config_hash = ConfigHash(config);
  info.config = PrintConfig({config, {}}, /*with_origins=*/false);
  for (const Axis axis : kAllAxes) info.mesh[AxisName(axis)] = trainer.mesh().mesh().size(axis);
  for (const auto& [name, value] : trainer.exchanges().Numbers()) info.scalars[name] = value;
  info.scalars["next_sample"] = trainer.step() * config.batch().global_batch_size();
  info.scalars["dataset"] = absl::StrCat(absl::Hex(dataset_fingerprint));
  return info;
}

std::string WarmStart::ToString() const {
  std::string text = absl::StrCat(num_loaded, " parameters loaded");
  if (!drawn.empty()) absl::StrAppend(&text, "\nnot there, drawn: ", absl::StrJoin(drawn, " "));
  if (!unused.empty()) absl::StrAppend(&text, "\nthere, not used: ", absl::StrJoin(unused, " "));
  return text;
}

StatusOr<WarmStart> LoadParameters(const std::string& directory, Trainer& trainer) {
  ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(directory));
  const ParameterSet& parameters = trainer.model().parameters();
  WarmStart result;
  for (const SavedTensor& tensor : ParameterTensors(parameters)) {
    if (reader.Find(tensor.name) != nullptr) RETURN_IF_ERROR(reader.Read(tensor));
  }
  for (const std::string& path : parameters.Paths()) {
    if (reader.Find(path) == nullptr) {
      result.drawn.push_back(path);
    } else {
      ++result.num_loaded;
    }
  }
  for (const CheckpointReader::TensorInfo& saved : reader.tensors()) {
    const bool is_state = absl::StrContains(saved.name, '/');
    if (!is_state && parameters.Find(saved.name) == nullptr) result.unused.push_back(saved.name);
  }
  if (result.num_loaded == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, " has no parameter of the model that the config names"));
  }
  RETURN_IF_ERROR(trainer.exchanges().Restart());
  RETURN_IF_ERROR(CatchFailure([&] { trainer.local_step().Restart(parameters); }));
  RETURN_IF_ERROR(trainer.Resume(0));
  return result;
}

StatusOr<std::string> LoadState(const std::string& directory, uint64_t dataset_fingerprint,
                                Trainer& trainer) {
  ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(directory));
  ASSIGN_OR_RETURN(const std::string dataset, reader.info().Text("dataset"));
  if (dataset != absl::StrCat(absl::Hex(dataset_fingerprint))) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " was trained on other data than the config names now"));
  }
  const int replica = trainer.mesh().Coordinate(Axis::kReplica),
            num_replicas = trainer.mesh().mesh().size(Axis::kReplica);
  std::map<std::string, double> numbers;
  for (const auto& [name, value] : reader.info().scalars) {
    if (std::holds_alternative<double>(value)) numbers[name] = std::get<double>(value);
  }
  RETURN_IF_ERROR(trainer.exchanges().SetNumbers(numbers));
  std::set<std::string> resized;
  for (const StateTensor& tensor : StateTensors(trainer)) {
    // Whether replicas had their own is the checkpoint's to say.
    const CheckpointReader::TensorInfo* saved = reader.Find(tensor.saved.name);
    const bool of_replica = saved != nullptr && saved->policy != ReplicaPolicy::kShared;
    if (of_replica && saved->global.rank() > 0 && saved->global[0] != num_replicas) {
      if (saved->policy == ReplicaPolicy::kRefuse) {
        return absl::FailedPreconditionError(
            absl::StrCat(directory, " was saved in the middle of a round of ", saved->global[0],
                         " replicas, and there are ", num_replicas,
                         " now; take as many, or a checkpoint from right after an exchange"));
      }
      const size_t slash = saved->name.find('/');
      resized.insert(
          absl::StrCat(slash == std::string::npos ? "parameters" : saved->name.substr(slash + 1),
                       " ", ReplicaPolicyName(saved->policy)));
    }
    RETURN_IF_ERROR(reader.Read(
        of_replica ? OfReplica(tensor.saved, saved->policy, replica, num_replicas) : tensor.saved));
  }
  trainer.exchanges().Loaded();
  RETURN_IF_ERROR(trainer.Resume(reader.info().step));
  if (resized.empty()) return std::string();
  return absl::StrCat("another number of replicas than saved; of what each had: ",
                      absl::StrJoin(resized, ", "));
}

}  // namespace trireme
