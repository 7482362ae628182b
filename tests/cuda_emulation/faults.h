// SIGSEGV, for what only the processor sees: the host that touches a device's memory, and kernels
// whose frames outgrow their fiber's stack. Says so and lets the signal kill the program.
#pragma once

namespace trireme::emulation {

void InstallFaultHandler();
// The calling thread handles its signals on a stack of their own: what overflowed has none.
void UseSignalStack();

}  // namespace trireme::emulation
