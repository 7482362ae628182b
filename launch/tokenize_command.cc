// trireme tokenize: text files to a token shard.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/params.h"
#include "data/tokenize.h"
#include "launch/bootstrap.h"
#include "launch/commands.h"

namespace trireme {
namespace {

// One flag for each parameter of TokenizeParams; they live as long as the program.
absl::Span<const Flag> Flags() {
  static const std::vector<Flag>* const flags = [] {
    auto* made = new std::vector<Flag>{{"output", "FILE", "the shard, replaced when it is there"}};
    for (const ParamInfo& info : TokenizeParams()) made->push_back({info.key, "VALUE", info.doc});
    return made;
  }();
  return *flags;
}

Status Tokenize(const CommandLine& line, const std::string& output) {
  ParamMap given;
  for (const ParamInfo& info : TokenizeParams()) {
    if (line.Has(info.key)) given[info.key] = line.String(info.key);
  }
  ASSIGN_OR_RETURN(const Params params, Params::Create("tokenize", TokenizeParams(), given));
  ASSIGN_OR_RETURN(const TokenizeReport report, TokenizeFiles(line.positional(), params, output));
  absl::PrintF("%s: %d documents, %d tokens, %d bytes of text\n", output, report.num_documents,
               report.num_tokens, report.num_bytes);
  for (size_t order = 0; order < report.bits_per_byte.size(); ++order) {
    absl::PrintF("entropy of order %d: %.2f bits per byte\n", order, report.bits_per_byte[order]);
  }
  return absl::OkStatus();
}

int RunTokenize(const CommandLine& line) {
  const std::string output = line.String("output");
  if (output.empty()) {
    return UsageError(absl::InvalidArgumentError("tokenize needs --output FILE"));
  }
  const Status status = Tokenize(line, output);
  if (status.ok()) return kExitDone;
  PrintError(status);
  return kExitError;
}

}  // namespace

Command TokenizeCommand() {
  return {
      {"tokenize", "Turns text files, plain or gzip, into a token shard.", "FILE...", 1, 1 << 20,
       Flags(),
       "trireme tokenize --documents entry --output gcide.tokens /usr/share/dictd/gcide.dict.dz"},
      &RunTokenize};
}

}  // namespace trireme
