// DrawNormal: the numbers of NormalAt (core/base/rng.h), in f64.
#include <cmath>
#include <numbers>

#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/element.cuh"
#include "core/ops/init.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int kThreads = 256;

__device__ double StandardNormal(RngKey key, uint64_t index) {
  const RngBlock block = Philox(key, index / 4);
  const bool upper = index % 4 >= 2;
  const double u = UniformFromBits(upper ? block[2] : block[0]);
  const double angle = 2.0 * std::numbers::pi * UniformFromBits(upper ? block[3] : block[1]);
  return sqrt(-2.0 * log(u)) * (index % 2 == 0 ? cos(angle) : sin(angle));
}

// Sizes of a box and the strides of the whole that it is cut from.
struct Box {
  int rank;
  int64_t sizes[6], global_strides[6];
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    DrawNormalKernel(T* dst, int64_t n, Box box, int64_t first, RngKey key, double stddev) {
  const int64_t num_threads = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += num_threads) {
    int64_t rest = i, global = first;
    for (int d = box.rank - 1; d >= 0; --d) {
      global += rest % box.sizes[d] * box.global_strides[d];
      rest /= box.sizes[d];
    }
    const double value = stddev * StandardNormal(key, static_cast<uint64_t>(global));
    Store(dst + i, static_cast<AccOf<T>>(value));
  }
}

}  // namespace

void DrawNormalCuda(Device& device, const DrawNormalArgs& args) {
  const int64_t n = args.dst.numel();
  Box box{args.dst.rank, {}, {}};
  for (int d = 0; d < box.rank; ++d) {
    box.sizes[d] = args.dst.sizes[d];
    box.global_strides[d] = args.global_strides[d];
  }
  DispatchFloating(args.dst.dtype, "draw_normal", [&](auto tag) {
    using T = typename decltype(tag)::type;
    LaunchKernel(device, DrawNormalKernel<T>, OverElements(n, kThreads), args.dst.as<T>(), n, box,
                 args.first, args.key, args.stddev);
  });
}

}  // namespace trireme
