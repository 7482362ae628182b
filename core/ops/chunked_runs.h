// The table of runs that the kernels of linear attention read.
#pragma once

#include <vector>

#include "absl/types/span.h"

#include "core/ops/recurrence.h"

namespace trireme {

inline std::vector<ChunkedRun> ChunkRuns(absl::Span<const TokenRun> runs) {
  std::vector<ChunkedRun> chunked;
  int64_t chunks = 0;
  for (const TokenRun& run : runs) {
    chunked.push_back({run.begin, run.end, chunks});
    chunks += chunked.back().num_chunks();
  }
  return chunked;
}

inline int64_t NumChunks(absl::Span<const ChunkedRun> runs) {
  return runs.empty() ? 0 : runs.back().first_chunk + runs.back().num_chunks();
}

}  // namespace trireme
