// Copy, Fill, Accumulate: any strides, any types.
#include <cmath>
#include <type_traits>

#include "core/ops/cuda/strided_loop.cuh"
#include "core/tensor/dispatch.h"
#include "core/tensor/kernels.h"

namespace trireme {
namespace {

template <typename T>
inline constexpr bool kIsHalf = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

// To f32, toward zero with the last bit set when inexact ("round to odd"): rounding the result to a
// shorter type then gives the same as rounding once (Boldo and Melquiond 2008).
__host__ __device__ inline float RoundToOdd(double value) {
  const float nearest = static_cast<float>(value);
  if (nearest == value || value != value) return nearest;
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  const double size = value < 0 ? -value : value, nearest_size = nearest < 0 ? -nearest : nearest;
  if (nearest_size > size) --bits;
  return std::bit_cast<float>(bits | 1);
}

template <typename D, typename S>
__host__ __device__ inline D Converted(S value) {
  if constexpr (std::is_same_v<S, D>) {
    return value;
  } else if constexpr (kIsHalf<S>) {
    return static_cast<D>(static_cast<float>(value));
  } else if constexpr (kIsHalf<D> && !std::is_same_v<S, float>) {
    return D(RoundToOdd(static_cast<double>(value)));
  } else {
    return static_cast<D>(value);
  }
}

struct Convert {
  static constexpr bool kReadsOutputs = false;
  template <typename D, typename S>
  __device__ void operator()(D& dst, S src) const {
    dst = Converted<D>(src);
  }
};

template <typename T>
struct SetTo {
  static constexpr bool kReadsOutputs = false;
  T value;
  __device__ void operator()(T& dst) const { dst = value; }
};

template <typename A>
struct AddScaled {
  static constexpr bool kReadsOutputs = true;
  A alpha;
  template <typename D, typename S>
  __device__ void operator()(D& dst, S src) const {
    dst = D(A(dst) + alpha * A(AccOf<S>(src)));
  }
};

}  // namespace

void CopyCuda(Device& device, const CopyArgs& args) {
  if (args.src.dtype == args.dst.dtype) {
    return DispatchSize(args.dst.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      Elementwise(device, Convert(), Out<T>(args.dst), In<T>(args.src));
    });
  }
  DispatchAll(args.dst.dtype, [&](auto dst_tag) {
    using D = typename decltype(dst_tag)::type;
    DispatchAll(args.src.dtype, [&](auto src_tag) {
      using S = typename decltype(src_tag)::type;
      if constexpr (!std::is_same_v<S, D>) {
        using InChunks =
            std::conditional_t<IsFloating(DTypeOf<S>::value) && IsFloating(DTypeOf<D>::value),
                               Convert, NeverInChunks>;
        Elementwise(device, InChunks(), Convert(), Out<D>(args.dst), In<S>(args.src));
      }
    });
  });
}

void FillCuda(Device& device, const FillArgs& args) {
  DispatchAll(args.dst.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise(device, SetTo<T>{Converted<T>(args.value)}, Out<T>(args.dst));
  });
}

void AccumulateCuda(Device& device, const AccumulateArgs& args) {
  DispatchFloating(args.dst.dtype, "accumulate", [&](auto dst_tag) {
    using D = typename decltype(dst_tag)::type;
    using A = AccOf<D>;
    DispatchFloating(args.src.dtype, "accumulate", [&](auto src_tag) {
      using S = typename decltype(src_tag)::type;
      Elementwise(device, AddScaled<A>{static_cast<A>(args.alpha)}, Out<D>(args.dst),
                  In<S>(args.src));
    });
  });
}

}  // namespace trireme
