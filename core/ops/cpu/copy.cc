// Copy, Fill, Accumulate on the CPU: any strides, any types.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "core/ops/cpu/element.h"
#include "core/ops/cpu/strided_loop.h"
#include "core/tensor/dispatch.h"
#include "core/tensor/kernels.h"

namespace trireme {
namespace {

template <typename T>
inline constexpr bool kIsHalf = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

// To f32, toward zero with the last bit set when inexact ("round to odd"): rounding the result to a
// shorter type then gives the same as rounding once (Boldo and Melquiond 2008).
float RoundToOdd(double value) {
  const float nearest = static_cast<float>(value);
  if (nearest == value || value != value) return nearest;
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  if (std::abs(nearest) > std::abs(value)) --bits;
  return std::bit_cast<float>(bits | 1);
}

template <typename S, typename D>
void ConvertOne(const S* src, D* dst) {
  if constexpr (kIsHalf<D>) {
    // By member: GCC does not vectorize a loop that assigns whole structs.
    if constexpr (kIsHalf<S> || std::is_same_v<S, float>) {
      dst->bits = D(static_cast<float>(*src)).bits;
    } else {
      dst->bits = D(RoundToOdd(static_cast<double>(*src))).bits;
    }
  } else if constexpr (kIsHalf<S>) {
    *dst = static_cast<D>(static_cast<float>(*src));
  } else {
    *dst = static_cast<D>(*src);
  }
}

template <typename T>
void MoveRows(CpuDevice& cpu, const View& dst, const View& src) {
  ForEachRow(cpu, {&dst, &src}, [&](const Row& row) {
    T* d = dst.as<T>() + row.offset[0];
    const T* s = src.as<T>() + row.offset[1];
    const int64_t ds = row.stride[0], ss = row.stride[1];
    if (row.dense) {
      std::memcpy(d, s, row.count * sizeof(T));
    } else {
      for (int64_t i = 0; i < row.count; ++i) d[i * ds] = s[i * ss];
    }
  });
}

template <typename S, typename D>
void ConvertRows(CpuDevice& cpu, const View& dst, const View& src) {
  ForEachRow(cpu, {&dst, &src}, [&](const Row& row) {
    D* d = dst.as<D>() + row.offset[0];
    const S* s = src.as<S>() + row.offset[1];
    const int64_t ds = row.stride[0], ss = row.stride[1];
    if (row.dense) {
#pragma omp simd
      for (int64_t i = 0; i < row.count; ++i) ConvertOne(s + i, d + i);
    } else {
      for (int64_t i = 0; i < row.count; ++i) ConvertOne(s + i * ss, d + i * ds);
    }
  });
}

}  // namespace

void CopyCpu(Device& device, const CopyArgs& args) {
  CpuDevice& cpu = AsCpu(device);
  if (args.src.dtype == args.dst.dtype) {
    return DispatchSize(args.dst.dtype, [&](auto tag) {
      MoveRows<typename decltype(tag)::type>(cpu, args.dst, args.src);
    });
  }
  DispatchAll(args.dst.dtype, [&](auto dst_tag) {
    using D = typename decltype(dst_tag)::type;
    DispatchAll(args.src.dtype, [&](auto src_tag) {
      using S = typename decltype(src_tag)::type;
      if constexpr (!std::is_same_v<S, D>) ConvertRows<S, D>(cpu, args.dst, args.src);
    });
  });
}

void FillCpu(Device& device, const FillArgs& args) {
  DispatchAll(args.dst.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T value;
    ConvertOne(&args.value, &value);
    ForEachRow(AsCpu(device), {&args.dst}, [&](const Row& row) {
      T* dst = args.dst.as<T>() + row.offset[0];
      if (row.dense) {
        std::fill(dst, dst + row.count, value);
      } else {
        for (int64_t i = 0; i < row.count; ++i) dst[i * row.stride[0]] = value;
      }
    });
  });
}

void AccumulateCpu(Device& device, const AccumulateArgs& args) {
  DispatchFloating(args.dst.dtype, "accumulate", [&](auto dst_tag) {
    using D = typename decltype(dst_tag)::type;
    DispatchFloating(args.src.dtype, "accumulate", [&](auto src_tag) {
      using S = typename decltype(src_tag)::type;
      using A = AccOf<D>;
      const A alpha = static_cast<A>(args.alpha);
      ForEachRow(AsCpu(device), {&args.dst, &args.src}, [&](const Row& row) {
        D* dst = args.dst.as<D>() + row.offset[0];
        const S* src = args.src.as<S>() + row.offset[1];
        const int64_t ds = row.stride[0], ss = row.stride[1];
        if (row.dense) {
#pragma omp simd
          for (int64_t i = 0; i < row.count; ++i) {
            Store(dst + i, Load(dst + i) + alpha * A(Load(src + i)));
          }
        } else {
          for (int64_t i = 0; i < row.count; ++i) {
            Store(dst + i * ds, Load(dst + i * ds) + alpha * A(Load(src + i * ss)));
          }
        }
      });
    });
  });
}

}  // namespace trireme
