#include "tests/bench/kernel_times.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "core/device/kernel.h"
#include "core/ops/matmul.h"

namespace trireme {

#define KERNEL(Name) void Name##Cpu(Device&, const Name##Args&);
#include "core/ops/kernels.def"
#undef KERNEL

namespace bench {
namespace {

// Kernels are plain functions: where they add up is a setting of the process.
KernelTimes* g_times = nullptr;
double g_nested_seconds = 0;  // Of the kernels that the running one has launched.

template <typename Args>
void Describe(const Args&, std::string*, double*) {}

void Describe(const GemmArgs& args, std::string* name, double* flops) {
  const int r = args.c.rank;
  const int64_t m = args.c.sizes[r - 2], n = args.c.sizes[r - 1], k = args.a.sizes[r - 1];
  const auto layout = [](const View& view) { return view.strides[view.rank - 1] == 1 ? "" : "^T"; };
  absl::StrAppend(name, " ", m, "x", k, layout(args.a), " ", k, "x", n, layout(args.b), " ",
                  DTypeName(args.c.dtype));
  *flops = 2.0 * args.c.numel() * k;
}

template <typename Args, void (*kernel)(Device&, const Args&)>
void Timed(Device& device, const Args& args, std::string name) {
  double flops = 0;
  Describe(args, &name, &flops);
  const double nested_before = g_nested_seconds;
  g_nested_seconds = 0;
  const absl::Time start = absl::Now();
  kernel(device, args);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  KernelTime& time = (*g_times)[name];
  ++time.calls;
  time.seconds += seconds - g_nested_seconds;
  time.flops += flops;
  g_nested_seconds = nested_before + seconds;
}

}  // namespace

std::unique_ptr<CpuDevice> MakeTimedCpuDevice(const CpuOptions& options, KernelTimes* times) {
  static constexpr KernelTable kTable = {
#define KERNEL(Name)                                   \
  .Name = [](Device& device, const Name##Args& args) { \
    Timed<Name##Args, Name##Cpu>(device, args, #Name); \
  },
#include "core/ops/kernels.def"
#undef KERNEL
  };
  g_times = times;
  return std::make_unique<CpuDevice>(options, kTable);
}

}  // namespace bench
}  // namespace trireme
