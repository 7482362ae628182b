// The device that a test program runs on: the CPU, or what --device=cuda, --device=cuda_emulated
// say.
#pragma once

#include <memory>
#include <string>

#include "core/device/device.h"
#include "core/ops/devices.h"

namespace trireme::testing {

// Takes --device=NAME out of the arguments, before GoogleTest sees them. Ends the program, as
// skipped, when a GPU is asked for and there is none.
void ParseDeviceFlag(int* argc, char** argv);

bool OnCpu();
// The plug-in that makes test devices other than the CPU.
std::string DeviceLibrary();
// A new device, for `rank` of the ranks of this machine. The options count on the CPU only.
std::unique_ptr<Device> MakeTestDevice(const CpuOptions& options = {}, int rank = 0);

}  // namespace trireme::testing
