// Which parameters a run trains: adapters added to those that its config names, and what it
// freezes.
#pragma once

#include "core/module/parameter.h"
#include "launch/run_config.pb.h"

namespace trireme {

// Before anything is materialized. INVALID_ARGUMENT when a pattern of `lora` matches nothing, or
// what is not the matrix of a linear layer, and when nothing is left to train.
Status ChooseTrained(const RunConfig& config, ParameterSet& parameters);

}  // namespace trireme
