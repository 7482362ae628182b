// A simulated plan as a picture: a row for each rank, time to the right.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

#include "parallel/pipeline/simulate.h"

namespace trireme {

// For a terminal of `width` characters; what is wider goes on in a block below. A column is
// 1 / num_chunks of time, so that with the default costs an action fills one, B two:
// "F3" the forward of micro-batch 3, "F3.1" that of chunk 1, "-" goes on, "." idle. Times between
// columns are drawn at the nearest one.
std::string GridText(const PipelineShape& shape, const Simulation& simulation, int width = 100);

// To scale, a colour for each kind, paler for later chunks.
std::string GridSvg(const PipelineShape& shape, const Simulation& simulation,
                    absl::string_view title);

}  // namespace trireme
