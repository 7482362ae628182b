// The values of an accepted array are as many as its dimensions say.
#include "core/base/log.h"
#include "data/idx.h"
#include "tests/fuzz/target.h"

bool trireme::fuzz::Accepts(absl::string_view input) {
  const MemoryFile file(input);
  const StatusOr<IdxArray> array = ReadIdx(file.path(), /*max_values=*/1 << 22);
  if (!array.ok()) return false;
  int64_t numel = 1;
  for (const int64_t dim : array->dims) numel *= dim;
  CHECK_EQ(static_cast<int64_t>(array->values.size()), numel);
  return true;
}
