// Signals that ask a run to save and end: SIGINT (Ctrl-C), SIGTERM, SIGUSR1 (what SLURM is told to
// send before the time is up). A signal reaches ranks at different moments, and maybe one only:
// ranks agree on it at a step boundary.
#pragma once

namespace trireme {

// From now on those signals are only noted; a second SIGINT ends the process at once, with 130. The
// state is the process's, as signals are.
void InstallStopSignals();

// The first such signal, or 0.
int StopSignal();

// "SIGINT"
const char* StopSignalName(int signal);

}  // namespace trireme
