// What parameters declare, held against what the ranks of the tensor axis do. Gradients are reduced
// as each ParamSpec says; a declaration that the model does not keep is an INTERNAL error here, not
// a wrong loss later.
#pragma once

#include "absl/types/span.h"

#include "core/module/parameter.h"
#include "core/module/unit_tensors.h"
#include "parallel/comm/communicator.h"

namespace trireme {

// When a model is built: `ranks` are the parameters that each tensor rank declares. Every rank
// declares the same but for its part, and the parts of a parameter tile the whole, each of them on
// `copies` neighbours.
Status CheckCut(absl::Span<const ParameterSet* const> ranks);

// Once, before the first reduction over the tensor axis: `gradients` are this rank's contributions.
// Ranks that have the same part of a parameter have the same gradient of it, bit for bit; or, where
// partial_grad or copies say that their gradients add up, they have not, unless it is zero. A
// collective of `tensor`.
Status CheckContributions(const ParameterSet& parameters, absl::Span<const int> which,
                          const UnitTensors& gradients, Device& device, Communicator& tensor);

}  // namespace trireme
