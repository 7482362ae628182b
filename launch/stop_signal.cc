#include "launch/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "core/base/log.h"

namespace trireme {
namespace {

std::atomic<int> stop_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free, "the handler writes it");

void NoteSignal(int signal) {
  int none = 0;
  const bool first = stop_signal.compare_exchange_strong(none, signal);
  if (!first && signal == SIGINT) _exit(130);
}

}  // namespace

void InstallStopSignals() {
  struct sigaction action = {};
  action.sa_handler = &NoteSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    CHECK_EQ(sigaction(signal, &action, nullptr), 0);
  }
}

int StopSignal() { return stop_signal.load(std::memory_order_relaxed); }

const char* StopSignalName(int signal) {
  switch (signal) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "no signal";
  }
}

}  // namespace trireme
