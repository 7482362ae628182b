// Between a trainer and its checkpoints: what is saved of a run, under which names, and how ranks agree on it.
#pragma once

#include <string>
#include <vector>

#include "core/module/parameter.h"
#include "launch/checkpoint/checkpoint_writer.h"
#include "launch/checkpoint/saved_state.h"
#include "launch/trainer.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// The masters of the parameters, by path. For loading: every rank wants all of them.
std::vector<SavedTensor> ParameterTensors(const ParameterSet& parameters);
// The optimizer's states as well: "layers.0.mixer.wq/exp_avg".
std::vector<SavedTensor> StateTensors(Trainer& trainer);

// `all` cut into the parts that ranks 0 .. size - 1 write: replicas hold the same, so each tensor is one
// rank's to write.
std::vector<SavedTensor> ShareToWrite(const std::vector<SavedTensor>& all, int rank, int size);

// How the ranks of `world` save together.
CheckpointGroup MakeCheckpointGroup(Communicator& world);

// Fills the trainer from a checkpoint and sets its step. FAILED_PRECONDITION when the data set is not the one
// that the run was trained on.
Status LoadState(const std::string& directory, uint64_t dataset_fingerprint, Trainer& trainer);

// The scalars of a checkpoint of `trainer`.
CheckpointInfo MakeCheckpointInfo(const Trainer& trainer, const RunConfig& config,
                                  uint64_t dataset_fingerprint);

}  // namespace trireme
