// Reading a box of a dense, row-major tensor that lies in a file.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"

#include "core/base/status.h"
#include "core/io/file.h"
#include "core/tensor/box.h"

namespace trireme {

struct StoredTensor {
  int64_t offset = 0;  // In the file.
  int64_t bytes = 0;
  int64_t element_bytes = 1;
};

// Reads the blocks of the stored tensor that hold elements of `runs` (whose source it is). Blocks
// are block_bytes long, a multiple of the element's, counted from the start of the tensor; the last
// may be shorter. Each is read whole and passed to check(index, block); what it holds of the runs
// goes to put(byte in the destination, bytes); block_done follows, before the memory is reused.
struct StoredBoxSink {
  absl::FunctionRef<Status(int64_t, absl::Span<const char>)> check;
  absl::FunctionRef<void(int64_t, absl::Span<const char>)> put;
  absl::FunctionRef<Status()> block_done;
};
Status ReadStoredBox(const File& file, const StoredTensor& stored, const BoxRuns& runs,
                     int64_t block_bytes, const StoredBoxSink& sink);

}  // namespace trireme
