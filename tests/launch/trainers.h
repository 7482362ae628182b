// Trainers on ranks that are threads, on the device of --device: for tests of whole steps.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "launch/config.h"
#include "launch/trainer.h"

namespace trireme::testing {

// The config of `text` with assignments, for a number of ranks. Expects it to be valid.
RunConfig ResolvedConfig(const std::string& text, int num_ranks,
                         const std::vector<std::string>& assignments);
// The same of the text of examples/configs/<name>.textproto.
std::string ExampleConfig(const std::string& name);

struct TrainerRank {
  Communicator& world;         // Of the host.
  Communicator& tensor_world;  // Of the device; the same on the CPU.
  Device& device;
  const Dataset& dataset;
  Trainer& trainer;
};

// Makes the trainer of `config` on every rank and calls fn there. Expects OK from each.
void OnTrainers(const RunConfig& config, int num_ranks,
                const std::function<Status(const TrainerRank& rank)>& fn,
                const CommOptions& options = {});

}  // namespace trireme::testing
