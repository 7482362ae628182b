// Rotary: a block a token, which computes its sines and cosines once for all heads. Angles are
// computed in f64, since positions may be large.
#include <cmath>

#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/element.cuh"
#include "core/ops/rotary.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int kThreads = 128;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    RotaryKernel(const T* x, const int32_t* positions, T* y, int64_t h, int64_t half,
                 int64_t token_stride, int64_t head_stride, double theta, double sign) {
  using A = AccOf<T>;
  A* sines = static_cast<A*>(SharedBytes());
  A* cosines = sines + half;
  const int64_t t = blockIdx.x;
  const double position = positions[t];
  for (int64_t i = threadIdx.x; i < half; i += kThreads) {
    const double frequency = pow(theta, -static_cast<double>(i) / static_cast<double>(half));
    const double angle = position * (sign * frequency);
    sines[i] = static_cast<A>(sin(angle));
    cosines[i] = static_cast<A>(cos(angle));
  }
  __syncthreads();
  for (int64_t k = threadIdx.x; k < h * half; k += kThreads) {
    const int64_t head = k / half, i = k % half;
    const T* from = x + t * token_stride + head * head_stride + i;
    T* to = y + (t * h + head) * 2 * half + i;
    const A a = Load(from), b = Load(from + half);
    Store(to, a * cosines[i] - b * sines[i]);
    Store(to + half, b * cosines[i] + a * sines[i]);
  }
}

}  // namespace

void RotaryCuda(Device& device, const RotaryArgs& args) {
  const int64_t n = args.x.sizes[0], h = args.x.sizes[1], half = args.x.sizes[2] / 2;
  DispatchFloating(args.x.dtype, "rotary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t shared_bytes = 2 * half * sizeof(AccOf<T>);
    LaunchKernel(device, RotaryKernel<T>, {dim3(n), dim3(kThreads), shared_bytes}, args.x.as<T>(),
                 args.positions.as<int32_t>(), args.y.as<T>(), h, half, args.x.strides[0],
                 args.x.strides[1], args.theta, args.inverse ? -1.0 : 1.0);
  });
}

}  // namespace trireme
