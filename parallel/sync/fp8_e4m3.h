#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

StatusOr<std::unique_ptr<Codec>> MakeFp8E4m3(const Params& params);

}  // namespace trireme
