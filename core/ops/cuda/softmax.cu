// Softmax and LogSoftmax, a block a row.
#include <cmath>

#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/softmax.cuh"
#include "core/ops/softmax.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename T, int kCount>
__global__ void __launch_bounds__(kMaxRowThreads)
    SoftmaxKernel(const T* x, T* y, int64_t c, bool log_of_it) {
  using A = AccOf<T>;
  using C = Chunk<T, kCount>;
  x += blockIdx.x * c;
  y += blockIdx.x * c;
  const auto total = ExpSumOfRow<kCount>(x, c, static_cast<ExpSum<A>*>(SharedBytes()));
  const A log_sum = log(total.sum), scale = 1 / total.sum;
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(x + i);
    C out;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const A below = A(values.at[j]) - total.max;
      out.at[j] = T(log_of_it ? below - log_sum : exp(below) * scale);
    }
    out.To(y + i);
  });
}

template <typename T, int kCount>
__global__ void __launch_bounds__(kMaxRowThreads)
    SoftmaxBackwardKernel(const T* y, const T* dy, T* dx, int64_t c, bool log_of_it) {
  using A = AccOf<T>;
  using C = Chunk<T, kCount>;
  y += blockIdx.x * c;
  dy += blockIdx.x * c;
  dx += blockIdx.x * c;
  A sum = 0;
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(y + i), slopes = C::From(dy + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      sum += log_of_it ? A(slopes.at[j]) : A(slopes.at[j]) * A(values.at[j]);
    }
  });
  sum = BlockSum(sum, static_cast<A*>(SharedBytes()));
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(y + i), slopes = C::From(dy + i);
    C out;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const A value = A(values.at[j]), slope = A(slopes.at[j]);
      out.at[j] = T(log_of_it ? slope - exp(value) * sum : value * (slope - sum));
    }
    out.To(dx + i);
  });
}

template <typename T>
LaunchShape RowShape(int64_t n, int64_t c, bool in_chunks) {
  return {dim3(n), dim3(RowThreads(c, in_chunks ? kChunk<T> : 1)),
          kMaxWarps * int64_t{sizeof(ExpSum<AccOf<T>>)}};
}

}  // namespace

void SoftmaxCuda(Device& device, const SoftmaxArgs& args) {
  const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
  DispatchFloating(args.x.dtype, "softmax", [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kCount = kChunk<T>;
    const T* x = args.x.as<T>();
    T* y = args.y.as<T>();
    const bool in_chunks = InChunks<kCount>(x, c) && InChunks<kCount>(y);
    LaunchKernel(device, in_chunks ? SoftmaxKernel<T, kCount> : SoftmaxKernel<T, 1>,
                 RowShape<T>(n, c, in_chunks), x, y, c, args.log);
  });
}

void SoftmaxBackwardCuda(Device& device, const SoftmaxBackwardArgs& args) {
  const int64_t n = args.y.sizes[0], c = args.y.sizes[1];
  DispatchFloating(args.y.dtype, "softmax", [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kCount = kChunk<T>;
    const T *y = args.y.as<T>(), *dy = args.dy.as<T>();
    T* dx = args.dx.as<T>();
    const bool in_chunks = InChunks<kCount>(y, c) && InChunks<kCount>(dy) && InChunks<kCount>(dx);
    LaunchKernel(device, in_chunks ? SoftmaxBackwardKernel<T, kCount> : SoftmaxBackwardKernel<T, 1>,
                 RowShape<T>(n, c, in_chunks), y, dy, dx, c, args.log);
  });
}

}  // namespace trireme
