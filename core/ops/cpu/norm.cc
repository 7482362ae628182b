// RmsNorm and LayerNorm on the CPU.
#include "core/ops/norm.h"

#include <algorithm>
#include <cmath>

#include "core/base/log.h"
#include "core/ops/cpu/column_sums.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

int64_t RowGrain(int64_t c) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, c)); }

template <typename T, bool kCentered>
void Norm(CpuDevice& cpu, const NormArgs& args) {
  using A = AccOf<T>;
  const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
  const T* gain = args.gain.as<T>();
  const T* bias = args.bias.as<T>();
  cpu.ParallelFor(n, RowGrain(c), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = args.x.as<T>() + r * c;
      T* y = args.y.as<T>() + r * c;
      A mean = 0;
      if constexpr (kCentered) {
        mean = SumRow<A>(c, [x](int64_t i) { return Load(x + i); }) / c;
        args.mean.as<A>()[r] = mean;
      }
      const A squares = SumRow<A>(c, [x, mean](int64_t i) {
        const A centered = Load(x + i) - mean;
        return centered * centered;
      });
      const A rstd = 1 / std::sqrt(squares / c + static_cast<A>(args.epsilon));
      args.rstd.as<A>()[r] = rstd;
      if (bias != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < c; ++i) {
          Store(y + i, (Load(x + i) - mean) * rstd * Load(gain + i) + Load(bias + i));
        }
      } else {
#pragma omp simd
        for (int64_t i = 0; i < c; ++i) Store(y + i, (Load(x + i) - mean) * rstd * Load(gain + i));
      }
    }
  });
}

template <typename T, bool kCentered>
void NormBackward(CpuDevice& cpu, const NormBackwardArgs& args) {
  using A = AccOf<T>;
  const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
  const T* gain = args.gain.as<T>();
  cpu.ParallelFor(n, RowGrain(c), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* x = args.x.as<T>() + r * c;
      const T* dy = args.dy.as<T>() + r * c;
      T* dx = args.dx.as<T>() + r * c;
      const A mean = kCentered ? args.mean.as<A>()[r] : A(0), rstd = args.rstd.as<A>()[r];
      const A mean_g =
          kCentered ? SumRow<A>(c, [=](int64_t i) { return Load(dy + i) * Load(gain + i); }) / c
                    : A(0);
      const A mean_gz = rstd / c * SumRow<A>(c, [=](int64_t i) {
                          return Load(dy + i) * Load(gain + i) * (Load(x + i) - mean);
                        });
#pragma omp simd
      for (int64_t i = 0; i < c; ++i) {
        const A g = Load(dy + i) * Load(gain + i), z = (Load(x + i) - mean) * rstd;
        Store(dx + i, rstd * (g - mean_g - z * mean_gz));
      }
    }
  });
}

template <typename T, bool kCentered>
void NormGainGrad(CpuDevice& cpu, const NormGainGradArgs& args) {
  using A = AccOf<T>;
  const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
  ColumnSums(cpu, args.dgain.as<A>(), 1, n, c, A(1), args.accumulate,
             [&](A* acc, int64_t, int64_t r0, int64_t r1, int64_t i0, int64_t i1) {
               for (int64_t r = r0; r < r1; ++r) {
                 const T* x = args.x.as<T>() + r * c + i0;
                 const T* dy = args.dy.as<T>() + r * c + i0;
                 const A rstd = args.rstd.as<A>()[r];
                 const A mean = kCentered ? args.mean.as<A>()[r] : A(0);
#pragma omp simd
                 for (int64_t i = 0; i < i1 - i0; ++i) {
                   acc[i] += Load(dy + i) * (Load(x + i) - mean) * rstd;
                 }
               }
             });
}

}  // namespace

void NormCpu(Device& device, const NormArgs& args) {
  DispatchFloating(args.x.dtype, "norm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = args.mean.defined() ? Norm<T, true> : Norm<T, false>;
    run(AsCpu(device), args);
  });
}

void NormBackwardCpu(Device& device, const NormBackwardArgs& args) {
  DispatchFloating(args.x.dtype, "norm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = args.mean.defined() ? NormBackward<T, true> : NormBackward<T, false>;
    run(AsCpu(device), args);
  });
}

void NormGainGradCpu(Device& device, const NormGainGradArgs& args) {
  DispatchFloating(args.x.dtype, "norm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    CHECK(args.dgain.dtype == DTypeOf<AccOf<T>>::value) << "[norm]";
    const auto run = args.mean.defined() ? NormGainGrad<T, true> : NormGainGrad<T, false>;
    run(AsCpu(device), args);
  });
}

}  // namespace trireme
