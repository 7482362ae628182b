// Between a trainer and its checkpoints: what is saved of a run, under which names, and how ranks
// agree on it.
#pragma once

#include <string>
#include <vector>

#include "core/module/parameter.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/checkpoint/saved_state.h"
#include "launch/trainer.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// This rank's parts of the masters of the parameters, by path.
std::vector<SavedTensor> ParameterTensors(const ParameterSet& parameters);
// The optimizer's states as well: "layers.0.mixer.wq/exp_avg".
std::vector<SavedTensor> StateTensors(Trainer& trainer);

// Those that this rank writes: of what several ranks hold, each part is one rank's.
std::vector<SavedTensor> TensorsToWrite(Trainer& trainer);

// How the ranks of `world` save together.
CheckpointGroup MakeCheckpointGroup(Communicator& world);

// What LoadParameters found.
struct WarmStart {
  int64_t num_loaded = 0;
  std::vector<std::string> drawn;   // Parameters that the checkpoint does not have.
  std::vector<std::string> unused;  // Those of the checkpoint that the model does not have.
  std::string ToString() const;     // Of a line each.
};
// The parameters of a checkpoint of any run, to begin a new run with. INVALID_ARGUMENT when a
// parameter has another shape there, and when it has none of them.
StatusOr<WarmStart> LoadParameters(const std::string& directory, Trainer& trainer);

// Fills the trainer from a checkpoint and sets its step. FAILED_PRECONDITION when the data set is
// not the one that the run was trained on.
Status LoadState(const std::string& directory, uint64_t dataset_fingerprint, Trainer& trainer);

// The scalars of a checkpoint of `trainer`.
CheckpointInfo MakeCheckpointInfo(const Trainer& trainer, const RunConfig& config,
                                  uint64_t dataset_fingerprint);

}  // namespace trireme
