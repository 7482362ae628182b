// Which device a rank trains on, and how it talks to the others from there.
#pragma once

#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/device/device.h"
#include "parallel/comm/communicator.h"

namespace trireme {

struct RankDevice {
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> communicator;  // Of tensors on it; nullptr: the world does.
  std::string remark;                          // What was chosen and why, if the user left it open.
};

struct DeviceChoice {
  std::string name =
      "cpu";  // Or cuda, one GPU a rank; auto: cuda where every rank has one, else cpu.
  bool allow_tf32 = false;
};

// A collective of `world`. UNAVAILABLE, INVALID_ARGUMENT (two ranks on one GPU) for cuda only.
// `rank_on_host` counts the ranks of this machine; `threads` are those of a CPU.
StatusOr<RankDevice> MakeRankDevice(Communicator& world, const DeviceChoice& choice,
                                    int rank_on_host, int threads, const CommOptions& options);

}  // namespace trireme
