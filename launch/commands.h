// The subcommands of `trireme`, one file each.
#pragma once

#include "launch/command_line.h"

namespace trireme {

struct Command {
  CommandSpec spec;
  int (*run)(const CommandLine& line);  // Returns an ExitCode.
};

Command TrainCommand();
Command VerifyCommand();
Command EvalCommand();
Command TokenizeCommand();
Command ListCommand();
Command ScheduleCommand();
Command MeshCommand();
Command CodeCommand();
Command SyncCommand();

}  // namespace trireme
