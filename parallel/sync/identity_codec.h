#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

StatusOr<std::unique_ptr<Codec>> MakeIdentityCodec(const Params& params);

}  // namespace trireme
