#include "tests/launch/trainers.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "launch/catalogue.h"
#include "parallel/comm/local.h"
#include "parallel/comm/nccl.h"
#include "tests/testing/device.h"

namespace trireme::testing {

RunConfig ResolvedConfig(const std::string& text, int num_ranks,
                         const std::vector<std::string>& assignments) {
  auto loaded = ParseConfig("test.textproto", text, assignments);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  const Status status = ResolveConfig(num_ranks, Catalogue(), &*loaded);
  EXPECT_TRUE(status.ok()) << status;
  return loaded->config;
}

std::string ExampleConfig(const std::string& name) {
  std::ifstream file(TRIREME_SOURCE_DIR "/examples/configs/" + name + ".textproto");
  EXPECT_TRUE(file) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void OnTrainers(const RunConfig& config, int num_ranks,
                const std::function<Status(const TrainerRank& rank)>& fn,
                const CommOptions& options) {
  const Status status = RunOnRanks(num_ranks, options, [&](Communicator& world) -> Status {
    // Numbers of threads change no bit.
    const auto device = MakeTestDevice({.num_threads = 1 + world.rank() % 2}, world.rank());
    std::unique_ptr<Communicator> on_device;
    if (!OnCpu()) {
      ASSIGN_OR_RETURN(on_device, MakeNcclWorld(DeviceLibrary(), world, *device, options));
    }
    Communicator& tensor_world = OnCpu() ? world : *on_device;
    const ComponentConfig data = ToComponentConfig(config.data().dataset());
    ASSIGN_OR_RETURN(const auto dataset,
                     MakeDataset(data.name, data.params, {config.data().sequence_length()}));
    PhaseTimer phases;
    ASSIGN_OR_RETURN(const auto trainer,
                     Trainer::Create(config, *dataset, tensor_world, *device, phases));
    return fn({world, tensor_world, *device, *dataset, *trainer});
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace trireme::testing
