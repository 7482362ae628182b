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

// What is saved of a trainer on this rank: the masters, the optimizer's states
// ("layers.0.mixer.wq/exp_avg"), what exchanges between replicas keep.
struct StateTensor {
  SavedTensor saved;   // Without the replicas.
  int parameter = -1;  // Whose it is; -1: of the run.
  // Replicas have their own, and what becomes of it for another number of them.
  bool of_replica = false;
  ReplicaPolicy policy = ReplicaPolicy::kShared;
  // Replicas have different boxes of one tensor.
  bool is_cut_by_replica = false;
};
std::vector<StateTensor> StateTensors(Trainer& trainer);

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
// not the one that the run was trained on, and when it was saved in the middle of a round of
// another number of replicas. The text says what became of states of replicas; empty: they are as
// they were.
StatusOr<std::string> LoadState(const std::string& directory, uint64_t dataset_fingerprint,
                                Trainer& trainer);

// The scalars of a checkpoint of `trainer`.
CheckpointInfo MakeCheckpointInfo(const Trainer& trainer, const RunConfig& config,
                                  uint64_t dataset_fingerprint);

}  // namespace trireme
