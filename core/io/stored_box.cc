#include "core/io/stored_box.h"

#include <algorithm>
#include <vector>

namespace trireme {

Status ReadStoredBox(const File& file, const StoredTensor& stored, const BoxRuns& runs,
                     int64_t block_bytes, const StoredBoxSink& sink) {
  std::vector<char> block(std::min(block_bytes, stored.bytes));
  const int64_t element = stored.element_bytes;
  const int64_t run_bytes = runs.length() * element;
  // Each turn reads the block of the next byte that is wanted; blocks between runs are skipped.
  int64_t k = 0, next = runs.count() == 0 ? 0 : runs[0].source * element;
  while (k < runs.count()) {
    const int64_t index = next / block_bytes;
    const int64_t begin = index * block_bytes;
    const int64_t end = std::min(begin + block_bytes, stored.bytes);
    RETURN_IF_ERROR(file.ReadAt(stored.offset + begin, block.data(), end - begin));
    RETURN_IF_ERROR(sink.check(index, absl::MakeSpan(block).first(end - begin)));
    for (; k < runs.count(); ++k) {
      const BoxRuns::Run run = runs[k];
      const int64_t run_begin = run.source * element;
      const int64_t from = std::max(run_begin, begin);
      const int64_t to = std::min(run_begin + run_bytes, end);
      next = std::max(run_begin, end);
      if (from >= to) break;
      sink.put(run.dest * element + (from - run_begin),
               absl::MakeSpan(block).subspan(from - begin, to - from));
      if (run_begin + run_bytes > end) break;
    }
    RETURN_IF_ERROR(sink.block_done());
  }
  return absl::OkStatus();
}

}  // namespace trireme
