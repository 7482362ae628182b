// Every token of an accepted shard reads, or is refused when its block is damaged. Each input is
// tried with checksums of header and tables that fit as well: otherwise no change would come past
// them.
#include <cstring>
#include <vector>

#include "core/base/log.h"
#include "core/io/crc32c.h"
#include "data/token_shard.h"
#include "tests/fuzz/target.h"

namespace trireme::fuzz {
namespace {

constexpr size_t kHeader = 64;

bool Parses(absl::string_view input) {
  const MemoryFile file(input);
  const auto shard = TokenShard::Open(file.path());
  if (!shard.ok()) return false;
  int64_t num_tokens = 0;
  for (const DocumentRecord& document : (*shard)->documents()) num_tokens += document.num_tokens;
  CHECK_EQ(num_tokens, (*shard)->num_tokens());
  std::vector<int32_t> tokens(num_tokens);
  if (!(*shard)->Read(0, absl::MakeSpan(tokens)).ok()) return false;
  for (const int32_t token : tokens) CHECK(token >= 0 && token < (*shard)->vocabulary_size());
  return true;
}

}  // namespace

bool Accepts(absl::string_view input) {
  if (input.size() >= kHeader) {
    std::string repaired(input);
    uint32_t width;
    uint64_t num_tokens;
    std::memcpy(&width, &repaired[12], sizeof(width));
    std::memcpy(&num_tokens, &repaired[24], sizeof(num_tokens));
    if (width <= 4 && num_tokens <= input.size()) {
      const size_t tables = kHeader + width * num_tokens;
      if (tables <= input.size()) {
        const uint32_t crc = Crc32c(&repaired[tables], input.size() - tables);
        std::memcpy(&repaired[56], &crc, sizeof(crc));
      }
    }
    const uint32_t crc = Crc32c(repaired.data(), 60);
    std::memcpy(&repaired[60], &crc, sizeof(crc));
    Parses(repaired);
  }
  return Parses(input);
}

}  // namespace trireme::fuzz
