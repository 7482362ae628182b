// Text is read as a config file and, line by line, as assignments.
#include "absl/strings/str_split.h"

#include "launch/config_reader.h"
#include "launch/run_config.pb.h"
#include "tests/fuzz/target.h"

bool trireme::fuzz::Accepts(absl::string_view input) {
  RunConfig assigned;
  Origins origins;
  for (const absl::string_view line : absl::StrSplit(input, '\n')) {
    if (!ApplyAssignment(line, &assigned, &origins).ok()) break;
  }
  RunConfig config;
  origins.clear();
  return ReadTextProto("fuzz", input, &config, &origins).ok();
}
