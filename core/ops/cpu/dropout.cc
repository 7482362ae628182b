// Dropout on the CPU: the counters of a block of channels are run through Philox side by side.
#include "core/ops/dropout.h"

#include <algorithm>

#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int kCounters = 64;
constexpr int kChannels = 4 * kCounters;

// bits[4 * j + lane] for the counters first .. first + kCounters.
void DrawBits(RngKey key, int64_t sample, int32_t position, int64_t first, uint32_t* bits) {
  const uint64_t high = uint64_t{static_cast<uint32_t>(position)} << 32;
#pragma omp simd
  for (int j = 0; j < kCounters; ++j) {
    const RngBlock block =
        Philox(key, high | static_cast<uint64_t>(first + j), static_cast<uint64_t>(sample));
    bits[4 * j] = block[0];
    bits[4 * j + 1] = block[1];
    bits[4 * j + 2] = block[2];
    bits[4 * j + 3] = block[3];
  }
}

}  // namespace

void DropoutCpu(Device& device, const DropoutArgs& args) {
  const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
  DispatchFloating(args.x.dtype, "dropout", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const A scale = static_cast<A>(args.scale);
    const uint32_t threshold = args.threshold;
    const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, c));
    AsCpu(device).ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
      uint32_t bits[kChannels];
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t k0 = 0; k0 < c; k0 += kChannels) {
          DrawBits(args.key, args.sample.as<int64_t>()[t], args.position.as<int32_t>()[t], k0 / 4,
                   bits);
          const T* x = args.x.as<T>() + t * c + k0;
          T* y = args.y.as<T>() + t * c + k0;
          const int64_t count = std::min<int64_t>(kChannels, c - k0);
#pragma omp simd
          for (int64_t k = 0; k < count; ++k) {
            const A scaled = Load(x + k) * scale;
            Store(y + k, bits[k] >= threshold ? scaled : A(0));
          }
        }
      }
    });
  });
}

}  // namespace trireme
