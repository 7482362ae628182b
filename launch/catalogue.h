// Everything that is registered, of all families, as `trireme list` prints it and configs name it.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"

#include "core/base/registry.h"

namespace trireme {

// Families one after another, entries in the order of their .def.
std::vector<Listing> Catalogue();

std::vector<std::string> Families(absl::Span<const Listing> catalogue);

// The entries of `family`, of all families when it is empty: a line each, then its parameters.
std::string FormatCatalogue(absl::Span<const Listing> catalogue, absl::string_view family);

}  // namespace trireme
