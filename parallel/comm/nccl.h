// The communicator of ranks whose tensors are on GPUs, one rank a GPU, by NCCL. It is in the
// plug-in of the device.
#pragma once

#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/device/device.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// A world of the same ranks as `control`, over which it is set up, and which outlives it. `library`
// is the plug-in that made the device. Collective. INVALID_ARGUMENT, naming them, when two ranks
// are on one GPU: NCCL would hang.
//
// Unlike the host's communicators it does not compare the calls of the ranks, so a call that
// differs ends with DEADLINE_EXCEEDED at best; a maximum need not keep NaN; and sums of f64, f32
// and integers without an order or weights are NCCL's own, equal on every rank but not bit for bit
// those of the host. A message to a rank that is no neighbour waits, the first time, for that rank.
StatusOr<std::unique_ptr<Communicator>> MakeNcclWorld(const std::string& library,
                                                      Communicator& control, Device& device,
                                                      const CommOptions& options);

}  // namespace trireme
