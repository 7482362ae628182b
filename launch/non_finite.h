// Where a step first went wrong, when its loss or gradients are not finite: the forward pass is run
// again and looked at unit by unit.
#pragma once

#include <string>

#include "core/module/unit_tensors.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/executor.h"

namespace trireme {

// "the output of layers.2 at position 17 of sample 40, on rank 5": the first unit of the model, and
// in it the first position, that is not finite on any rank of `world`; or the first parameter whose
// gradient is not. The same text on every rank. A collective; every rank gives the items of the
// step.
StatusOr<std::string> FirstNonFinite(Model& model, Executor& executor,
                                     absl::Span<const WorkItem> items, const Executor::LoadFn& load,
                                     const ForwardContext& context, const UnitTensors& gradients,
                                     Communicator& world, Device& device);

}  // namespace trireme
