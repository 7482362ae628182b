#pragma once

#include "parallel/sync/codec.h"

namespace trireme {

StatusOr<std::unique_ptr<Codec>> MakeF16(const Params& params);
StatusOr<std::unique_ptr<Codec>> MakeBf16(const Params& params);

}  // namespace trireme
