// Every tensor of an accepted file can be read, and together they are as large as the file says.
#include <vector>

#include "core/base/log.h"
#include "core/io/safetensors.h"
#include "tests/fuzz/target.h"

bool trireme::fuzz::Accepts(absl::string_view input) {
  const MemoryFile file(input);
  const StatusOr<SafetensorsReader> reader = SafetensorsReader::Open(file.path());
  if (!reader.ok()) return false;
  int64_t end = reader->data_offset();
  for (const SafetensorsEntry& entry : reader->tensors()) {
    CHECK_EQ(entry.offset, end) << entry.name;
    end += entry.bytes;
    std::vector<char> data(entry.bytes);
    CHECK_OK(reader->ReadBox(entry, WholeBox(entry.shape), data.data()));
    CHECK(reader->Find(entry.name) == &entry) << entry.name;
  }
  CHECK_EQ(end, static_cast<int64_t>(input.size()));
  return true;
}
