// Runs a fuzz target over a folder of its corpus: files named valid-* must be accepted, bad-*
// refused, and no truncation and no flipped bit of any of them may crash the parser.
#include <cstdio>
#include <string>

#include "absl/strings/match.h"

#include "core/io/file.h"
#include "tests/fuzz/target.h"

namespace trireme::fuzz {
namespace {

// Files this small have every truncation and a flipped bit of every byte tried as well.
constexpr size_t kSmall = 1024;

int Replay(const std::string& folder) {
  int num_valid = 0, num_bad = 0, num_wrong = 0;
  const auto names = ListDirectory(folder);
  if (!names.ok()) {
    std::fprintf(stderr, "%s\n", names.status().ToString().c_str());
    return 1;
  }
  for (const std::string& name : *names) {
    const bool valid = absl::StartsWith(name, "valid-");
    ++(valid ? num_valid : num_bad);
    std::string input = ValueOrThrow(ReadFile(JoinPath(folder, name)));
    if (!(valid || absl::StartsWith(name, "bad-")) || Accepts(input) != valid) {
      std::fprintf(stderr, "%s/%s was %s\n", folder.c_str(), name.c_str(),
                   valid ? "refused" : "accepted, or is named neither valid- nor bad-");
      ++num_wrong;
    }
    if (input.size() > kSmall) continue;
    for (size_t n = 0; n < input.size(); ++n) {
      Accepts(absl::string_view(input).substr(0, n));
      input[n] ^= 1 << n % 8;
      Accepts(input);
      input[n] ^= 1 << n % 8;
    }
  }
  std::printf("%s: %d valid, %d bad, %d wrong\n", folder.c_str(), num_valid, num_bad, num_wrong);
  return num_valid > 0 && num_bad > 0 && num_wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace trireme::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  return trireme::fuzz::Replay(argv[1]);
}
