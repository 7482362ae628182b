// From the slices of an update to the items of a multi-tensor kernel.
#pragma once

#include <vector>

#include "core/ops/optimizer_kernels.h"
#include "optim/optimizer.h"

namespace trireme {

std::vector<UpdateItem> MakeUpdateItems(absl::Span<const UpdateSlice> slices);

}  // namespace trireme
