// RmsNorm and LayerNorm: a block a row, which the caches keep between its passes.
#include <cmath>

#include "core/ops/cuda/sums.cuh"
#include "core/ops/norm.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename T, int kCount, bool kCentered>
__global__ void __launch_bounds__(kMaxRowThreads)
    NormKernel(const T* x, const T* gain, const T* bias, T* y, AccOf<T>* means, AccOf<T>* rstds,
               int64_t c, AccOf<T> epsilon) {
  using A = AccOf<T>;
  using C = Chunk<T, kCount>;
  A* shared = static_cast<A*>(SharedBytes());
  x += blockIdx.x * c;
  y += blockIdx.x * c;
  A mean = 0;
  if constexpr (kCentered) {
    A sum = 0;
    ForEachChunk<kCount>(c, [&](int64_t i) {
      const C values = C::From(x + i);
#pragma unroll
      for (int j = 0; j < kCount; ++j) sum += A(values.at[j]);
    });
    mean = BlockSum(sum, shared) / c;
  }
  A squares = 0;
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(x + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const A centered = A(values.at[j]) - mean;
      squares += centered * centered;
    }
  });
  squares = BlockSum(squares, shared);
  const A rstd = 1 / sqrt(squares / c + epsilon);
  if (threadIdx.x == 0) {
    rstds[blockIdx.x] = rstd;
    if (kCentered) means[blockIdx.x] = mean;
  }
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(x + i), gains = C::From(gain + i);
    C biases{}, out;
    if (bias != nullptr) biases = C::From(bias + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      out.at[j] = T((A(values.at[j]) - mean) * rstd * A(gains.at[j]) + A(biases.at[j]));
    }
    out.To(y + i);
  });
}

template <typename T, int kCount, bool kCentered>
__global__ void __launch_bounds__(kMaxRowThreads)
    NormBackwardKernel(const T* x, const T* gain, const T* dy, const AccOf<T>* means,
                       const AccOf<T>* rstds, T* dx, int64_t c) {
  using A = AccOf<T>;
  using C = Chunk<T, kCount>;
  A* shared = static_cast<A*>(SharedBytes());
  x += blockIdx.x * c;
  dy += blockIdx.x * c;
  dx += blockIdx.x * c;
  const A mean = kCentered ? means[blockIdx.x] : A(0), rstd = rstds[blockIdx.x];
  A sum_g = 0, sum_gz = 0;
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(x + i), gains = C::From(gain + i), slopes = C::From(dy + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const A g = A(slopes.at[j]) * A(gains.at[j]);
      sum_g += g;
      sum_gz += g * (A(values.at[j]) - mean);
    }
  });
  const A mean_g = kCentered ? BlockSum(sum_g, shared) / c : A(0);
  const A mean_gz = rstd / c * BlockSum(sum_gz, shared);
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(x + i), gains = C::From(gain + i), slopes = C::From(dy + i);
    C out;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const A g = A(slopes.at[j]) * A(gains.at[j]), z = (A(values.at[j]) - mean) * rstd;
      out.at[j] = T(rstd * (g - mean_g - z * mean_gz));
    }
    out.To(dx + i);
  });
}

template <typename T>
struct GainTerm {
  const T *x, *dy;
  const AccOf<T>*mean, *rstd;
  int64_t c;
  __device__ AccOf<T> operator()(int64_t, int64_t r, int64_t i) const {
    const AccOf<T> centered = Load(x + r * c + i) - (mean != nullptr ? mean[r] : AccOf<T>(0));
    return Load(dy + r * c + i) * centered * rstd[r];
  }
};

template <typename A>
LaunchShape RowShape(int64_t n, int64_t c, int count) {
  return {dim3(n), dim3(RowThreads(c, count)), kMaxWarps * int64_t{sizeof(A)}};
}

template <typename T, int kCount>
void RunNorm(Device& device, const NormArgs& args) {
  using A = AccOf<T>;
  const int64_t c = args.x.sizes[1];
  const auto kernel =
      args.mean.defined() ? NormKernel<T, kCount, true> : NormKernel<T, kCount, false>;
  LaunchKernel(device, kernel, RowShape<A>(args.x.sizes[0], c, kCount), args.x.as<T>(),
               args.gain.as<T>(), args.bias.as<T>(), args.y.as<T>(), args.mean.as<A>(),
               args.rstd.as<A>(), c, static_cast<A>(args.epsilon));
}

template <typename T, int kCount>
void RunNormBackward(Device& device, const NormBackwardArgs& args) {
  using A = AccOf<T>;
  const int64_t c = args.x.sizes[1];
  const auto kernel = args.mean.defined() ? NormBackwardKernel<T, kCount, true>
                                          : NormBackwardKernel<T, kCount, false>;
  LaunchKernel(device, kernel, RowShape<A>(args.x.sizes[0], c, kCount), args.x.as<T>(),
               args.gain.as<T>(), args.dy.as<T>(), args.mean.as<A>(), args.rstd.as<A>(),
               args.dx.as<T>(), c);
}

template <typename T>
bool RowsInChunks(int64_t c, std::initializer_list<const View*> views) {
  for (const View* view : views) {
    if (view->defined() && !InChunks<kChunk<T>>(view->as<T>(), c)) return false;
  }
  return true;
}

}  // namespace

void NormCuda(Device& device, const NormArgs& args) {
  DispatchFloating(args.x.dtype, "norm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool in_chunks =
        RowsInChunks<T>(args.x.sizes[1], {&args.x, &args.gain, &args.bias, &args.y});
    in_chunks ? RunNorm<T, kChunk<T>>(device, args) : RunNorm<T, 1>(device, args);
  });
}

void NormBackwardCuda(Device& device, const NormBackwardArgs& args) {
  DispatchFloating(args.x.dtype, "norm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool in_chunks =
        RowsInChunks<T>(args.x.sizes[1], {&args.x, &args.gain, &args.dy, &args.dx});
    in_chunks ? RunNormBackward<T, kChunk<T>>(device, args) : RunNormBackward<T, 1>(device, args);
  });
}

void NormGainGradCuda(Device& device, const NormGainGradArgs& args) {
  DispatchFloating(args.x.dtype, "norm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    if (args.dgain.dtype != DTypeOf<A>::value) NoKernelFor(args.dgain.dtype, "norm");
    const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
    ColumnSums(
        device, 1, n, c,
        GainTerm<T>{args.x.as<T>(), args.dy.as<T>(), args.mean.as<A>(), args.rstd.as<A>(), c},
        SumTarget<A, A>{args.dgain.as<A>(), A(1), args.accumulate});
  });
}

}  // namespace trireme
