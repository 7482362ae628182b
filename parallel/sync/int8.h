#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

StatusOr<std::unique_ptr<Codec>> MakeInt8(const Params& params);

}  // namespace trireme
