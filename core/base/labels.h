// The label that is none, apart from batches so that kernels can include it.
#pragma once

#include <cstdint>

namespace trireme {

// The label of what nobody has to predict.
inline constexpr int32_t kIgnoredLabel = -1;

}  // namespace trireme
