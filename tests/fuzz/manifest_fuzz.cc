// An accepted manifest serializes to one that is accepted. Each input is tried with a checksum that
// fits as well: otherwise no change would come past it.
#include <google/protobuf/stubs/logging.h>

#include "core/base/log.h"
#include "core/io/crc32c.h"
#include "launch/checkpoint/manifest.h"
#include "tests/fuzz/target.h"

namespace trireme::fuzz {
namespace {

bool Parses(absl::string_view input) {
  // It reports names that are no UTF-8 on stderr, once for each input.
  static const auto silenced = google::protobuf::SetLogHandler(nullptr);
  (void)silenced;
  const StatusOr<checkpoint::Manifest> manifest = ParseManifest(input);
  if (!manifest.ok()) return false;
  CHECK_OK(SerializeManifest(*manifest).status());
  return true;
}

}  // namespace

bool Accepts(absl::string_view input) {
  if (input.size() >= 5) {
    std::string repaired(input.substr(0, input.size() - 5));
    const uint32_t crc = Crc32c(repaired.data(), repaired.size());
    repaired.push_back(15 << 3 | 5);
    repaired.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
    Parses(repaired);
  }
  return Parses(input);
}

}  // namespace trireme::fuzz
