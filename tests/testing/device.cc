#include "tests/testing/device.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

#include "core/base/log.h"

namespace trireme::testing {
namespace {

std::string device_name = "cpu";  // Set by main before the tests are made.

}  // namespace

void ParseDeviceFlag(int* argc, char** argv) {
  constexpr absl::string_view kFlag = "--device=";
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    if (absl::StartsWith(argv[i], kFlag)) {
      device_name = argv[i] + kFlag.size();
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  CHECK(device_name == "cpu" || device_name == "cuda" || device_name == "cuda_emulated")
      << "--device=" << device_name;
  if (device_name != "cuda") return;
  const Status found = MakeCudaDevice({}).status();
  if (absl::IsUnavailable(found)) {
    std::printf("SKIPPED: no GPU: %s\n", found.ToString().c_str());
    std::exit(0);
  }
}

bool OnCpu() { return device_name == "cpu"; }

std::string DeviceLibrary() { return "trireme_" + device_name; }

std::unique_ptr<Device> MakeTestDevice(const CpuOptions& options, int rank) {
  if (OnCpu()) return MakeCpuDevice(options);
  CudaOptions cuda;
  cuda.library = DeviceLibrary();
  cuda.local_rank = rank;
  cuda.memory_limit_bytes = options.memory_limit_bytes;
  return ValueOrThrow(MakeCudaDevice(cuda));
}

}  // namespace trireme::testing
