// The command line of one subcommand: declared as data, parsed strictly, printed by --help.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/status.h"

namespace trireme {

// What the program returns to the shell.
enum ExitCode {
  kExitDone = 0,
  kExitError = 1,
  kExitUsage = 2,
  kExitStopped =
      75,  // Checkpointed and stopped on request: run it again. EX_TEMPFAIL of sysexits.h.
};

struct Flag {
  const char* name;   // Without dashes. '-' and '_' are the same.
  const char* value;  // What stands for the value in --help; nullptr: a switch, which takes none.
  const char* doc;
  bool repeated = false;
};

struct CommandSpec {
  const char* name;
  const char* doc;         // One line.
  const char* positional;  // What stands for the arguments in --help, "" when there are none.
  int min_positional;
  int max_positional;
  absl::Span<const Flag> flags;
  const char* example;
};

class CommandLine {
 public:
  // `args` follow the subcommand's name: --flag value, --flag=value, --switch; "--" ends the flags.
  // Errors are INVALID_ARGUMENT of one line; unknown flags with the nearest known one. --help is
  // always known.
  static StatusOr<CommandLine> Parse(const CommandSpec& spec, absl::Span<const std::string> args);

  bool Has(absl::string_view flag) const { return values_.count(std::string(flag)) > 0; }
  std::string String(absl::string_view flag, absl::string_view otherwise = "") const;
  std::vector<std::string> All(absl::string_view flag) const;
  // INVALID_ARGUMENT when the text is no integer of at least `min`.
  StatusOr<int64_t> Int(absl::string_view flag, int64_t otherwise, int64_t min) const;
  const std::vector<std::string>& positional() const { return positional_; }

 private:
  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> positional_;
};

std::string HelpText(const CommandSpec& spec);

}  // namespace trireme
