#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

StatusOr<std::unique_ptr<Codec>> MakeE3m0(const Params& params);

}  // namespace trireme
