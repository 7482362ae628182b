// The names of the operations of ops.h, for `trireme list`.
#pragma once

#include <vector>

#include "core/base/registry.h"

namespace trireme {

void AppendOpListings(std::vector<Listing>* listings);

}  // namespace trireme
