#include "launch/run_state.h"

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

std::vector<SavedTensor> StateTensors(Trainer& trainer) {
  std::vector<SavedTensor> tensors = ParameterTensors(trainer.model().parameters());
  for (const ParameterUpdate::State& state : trainer.update().States()) {
    const ParamSpec& spec = state.parameter->spec;
    tensors.push_back({absl::StrCat(spec.path, "/", state.name), spec.global,
                       state.parameter->owned_box, state.value});
  }
  return tensors;
}

std::vector<SavedTensor> TensorsToWrite(Trainer& trainer) {
  const ModelMesh& mesh = trainer.mesh();
  const int tensor_rank = mesh.Coordinate(Axis::kTensor);
  const int replica = mesh.Coordinate(Axis::kReplica),
            num_replicas = mesh.mesh().size(Axis::kReplica);
  const ParameterSet& parameters = trainer.model().parameters();
  std::vector<SavedTensor> mine;
  int next = 0;
  for (SavedTensor& tensor : StateTensors(trainer)) {
    const std::string path = tensor.name.substr(0, tensor.name.find('/'));
    if (!IsCounted(*parameters.Find(path), tensor_rank)) continue;
    if (next++ % num_replicas == replica) mine.push_back(std::move(tensor));
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
  RETURN_IF_ERROR(trainer.Resume(0));
  return result;
}

Status LoadState(const std::string& directory, uint64_t dataset_fingerprint, Trainer& trainer) {
  ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(directory));
  ASSIGN_OR_RETURN(const std::string dataset, reader.info().Text("dataset"));
  if (dataset != absl::StrCat(absl::Hex(dataset_fingerprint))) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " was trained on other data than the config names now"));
  }
  for (const SavedTensor& tensor : StateTensors(trainer)) RETURN_IF_ERROR(reader.Read(tensor));
  return trainer.Resume(reader.info().step);
}

}  // namespace trireme
