#include "tests/cuda_emulation/faults.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/cuda_emulation/errors.h"
#include "tests/cuda_emulation/machine.h"

namespace trireme::emulation {
namespace {

struct sigaction previous;

void HandleFault(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const Execution* execution = Execution::Current();
  std::string message;
  if (execution != nullptr && execution->stack_begin - address <= kPageBytes) {
    message = execution->DescribeStamp(execution->me) +
              Format(": more than the %zu bytes of its stack", kFiberStackBytes);
  } else if (const EmulatedDevice* device = Machine::Get().DeviceAt(info->si_addr)) {
    message = Format("the host touched memory of device %d: ", device->index) +
              device->memory.Describe(info->si_addr);
  }
  if (!message.empty()) {
    message = "emulated device: " + message + "\n";
    const ssize_t ignored = write(STDERR_FILENO, message.data(), message.size());
    static_cast<void>(ignored);
  } else if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
    return;
  }
  // The instruction is run again and ends the program.
  ::signal(signal, SIG_DFL);
}

}  // namespace

void InstallFaultHandler() {
  struct sigaction action = {};
  action.sa_sigaction = HandleFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous);
}

void UseSignalStack() {
  constexpr size_t kBytes = 256 << 10;
  stack_t stack = {};
  stack.ss_sp = malloc(kBytes);  // For the life of the thread, which is the program's.
  stack.ss_size = kBytes;
  sigaltstack(&stack, nullptr);
}

}  // namespace trireme::emulation
