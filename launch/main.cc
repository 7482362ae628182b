// The `trireme` command.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/params.h"
#include "launch/bootstrap.h"
#include "launch/commands.h"

namespace trireme {
namespace {

std::string Usage(absl::Span<const Command> commands) {
  std::string text =
      "Trireme trains neural networks over many processes.\n\nusage: trireme COMMAND [flags]\n\n";
  for (const Command& command : commands) {
    absl::StrAppendFormat(&text, "  %-10s  %s\n", command.spec.name, command.spec.doc);
  }
  absl::StrAppendFormat(&text, "  %-10s  %s\n", "version",
                        "Prints the version and how it was built.");
  absl::StrAppend(
      &text,
      "\n`trireme COMMAND --help` explains a command. Exit codes: 0 done, 1 error, 2 wrong "
      "usage,\n75 saved a checkpoint and stopped on a signal: run the same command again.\n");
  return text;
}

int Main(const std::vector<std::string>& args) {
  const Command commands[] = {TrainCommand(), EvalCommand(),     TokenizeCommand(),
                              ListCommand(),  ScheduleCommand(), MeshCommand(),
                              CodeCommand(),  SyncCommand(),     VerifyCommand()};
  const std::string name = args.empty() ? "" : args[0];
  if (name == "version" || name == "--version") {
    absl::PrintF("trireme %s, g++ %s, -march=%s\n", TRIREME_VERSION, __VERSION__, TRIREME_ARCH);
    return kExitDone;
  }
  if (name == "help" || name == "--help") {
    std::fputs(Usage(commands).c_str(), stdout);
    return kExitDone;
  }
  if (name.empty()) {
    std::fputs(Usage(commands).c_str(), stderr);
    return kExitUsage;
  }
  std::vector<std::string> known = {"version", "help"};
  for (const Command& command : commands) {
    known.push_back(command.spec.name);
    if (name != command.spec.name) continue;
    const StatusOr<CommandLine> line =
        CommandLine::Parse(command.spec, absl::MakeConstSpan(args).subspan(1));
    if (!line.ok()) return UsageError(line.status());
    if (line->Has("help")) {
      std::fputs(HelpText(command.spec).c_str(), stdout);
      return kExitDone;
    }
    return command.run(*line);
  }
  return UsageError(absl::InvalidArgumentError(UnknownNameMessage("command", name, known)));
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
  return trireme::Main(std::vector<std::string>(argv + 1, argv + argc));
}
