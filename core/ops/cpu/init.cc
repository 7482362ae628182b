#include "core/ops/init.h"

#include "core/base/rng.h"
#include "core/device/cpu/cpu_device.h"
#include "core/tensor/dispatch.h"

namespace trireme {

void DrawNormalCpu(Device& device, const DrawNormalArgs& args) {
  const View& dst = args.dst;
  DispatchFloating(dst.dtype, "draw_normal", [&](auto tag) {
    using T = typename decltype(tag)::type;
    AsCpu(device).ParallelFor(dst.numel(), 16384, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t rest = i, global = args.first;
        for (int d = dst.rank - 1; d >= 0; --d) {
          global += rest % dst.sizes[d] * args.global_strides[d];
          rest /= dst.sizes[d];
        }
        dst.as<T>()[i] = T(static_cast<AccOf<T>>(args.stddev * NormalAt(args.key, global)));
      }
    });
  });
}

}  // namespace trireme
