// Rotary: a block a token, which computes its sines and cosines once for all heads. Angles are
// computed in f64, since positions may be large, from frequencies of the host: another rounding of
// one would turn far positions visibly.
#include <algorithm>
#include <cmath>

#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/element.cuh"
#include "core/ops/rotary.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int kThreads = 128;
constexpr int kPairs = 256;  // Of a launch.

struct Frequencies {
  int count;
  double at[kPairs];
};

// Pairs [first, first + frequencies.count).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    RotaryKernel(const T* x, const int32_t* positions, T* y, int64_t h, int64_t half, int64_t first,
                 int64_t token_stride, int64_t head_stride, Frequencies frequencies) {
  using A = AccOf<T>;
  A* sines = static_cast<A*>(SharedBytes());
  A* cosines = sines + kPairs;
  const int64_t t = blockIdx.x;
  const int count = frequencies.count;
  const double position = positions[t];
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const double angle = position * frequencies.at[i];
    sines[i] = static_cast<A>(sin(angle));
    cosines[i] = static_cast<A>(cos(angle));
  }
  __syncthreads();
  for (int64_t k = threadIdx.x; k < h * count; k += kThreads) {
    const int64_t head = k / count, i = k % count;
    const T* from = x + t * token_stride + head * head_stride + first + i;
    T* to = y + (t * h + head) * 2 * half + first + i;
    const A a = Load(from), b = Load(from + half);
    Store(to, a * cosines[i] - b * sines[i]);
    Store(to + half, b * cosines[i] + a * sines[i]);
  }
}

}  // namespace

void RotaryCuda(Device& device, const RotaryArgs& args) {
  const int64_t n = args.x.sizes[0], h = args.x.sizes[1], half = args.x.sizes[2] / 2;
  for (int64_t first = 0; first < half; first += kPairs) {
    Frequencies frequencies{static_cast<int>(std::min<int64_t>(kPairs, half - first)), {}};
    for (int i = 0; i < frequencies.count; ++i) {
      const double pair = static_cast<double>(first + i);
      const double frequency = std::pow(args.theta, -pair / static_cast<double>(half));
      frequencies.at[i] = args.inverse ? -frequency : frequency;
    }
    DispatchFloating(args.x.dtype, "rotary", [&](auto tag) {
      using T = typename decltype(tag)::type;
      LaunchKernel(device, RotaryKernel<T>,
                   {dim3(n), dim3(kThreads), 2 * kPairs * int64_t{sizeof(AccOf<T>)}},
                   args.x.as<T>(), args.positions.as<int32_t>(), args.y.as<T>(), h, half, first,
                   args.x.strides[0], args.x.strides[1], frequencies);
    });
  }
}

}  // namespace trireme
