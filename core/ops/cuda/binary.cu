// Binary, Compare, Where and Scale.
#include <type_traits>

#include "core/ops/cuda/strided_loop.cuh"
#include "core/ops/elementwise.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <BinaryOp kOp, typename A>
__device__ inline A BinaryValue(A a, A b) {
  // A comparison with NaN is false: the order of operands below lets NaN through from both sides.
  if constexpr (kOp == BinaryOp::kAdd) {
    return a + b;
  } else if constexpr (kOp == BinaryOp::kSub) {
    return a - b;
  } else if constexpr (kOp == BinaryOp::kMul) {
    return a * b;
  } else if constexpr (kOp == BinaryOp::kDiv) {
    return a / b;
  } else if constexpr (kOp == BinaryOp::kMaximum) {
    return a > b || a != a ? a : b;
  } else if constexpr (kOp == BinaryOp::kMinimum) {
    return a < b || a != a ? a : b;
  } else if constexpr (kOp == BinaryOp::kMaximumShare) {
    return a > b ? A(1) : a < b ? A(0) : A(0.5);
  } else {
    static_assert(kOp == BinaryOp::kMinimumShare);
    return a < b ? A(1) : a > b ? A(0) : A(0.5);
  }
}

template <BinaryOp kOp, typename T>
struct BinaryFn {
  static constexpr bool kReadsOutputs = false;
  __device__ void operator()(T& y, T a, T b) const {
    y = T(BinaryValue<kOp>(AccOf<T>(a), AccOf<T>(b)));
  }
};

template <BinaryOp kOp>
using BinaryTag = std::integral_constant<BinaryOp, kOp>;

// Calls fn(tag), on the host or on the device.
template <typename Fn>
__host__ __device__ inline void DispatchBinary(BinaryOp op, const Fn& fn) {
  switch (op) {
    case BinaryOp::kAdd:
      return fn(BinaryTag<BinaryOp::kAdd>());
    case BinaryOp::kSub:
      return fn(BinaryTag<BinaryOp::kSub>());
    case BinaryOp::kMul:
      return fn(BinaryTag<BinaryOp::kMul>());
    case BinaryOp::kDiv:
      return fn(BinaryTag<BinaryOp::kDiv>());
    case BinaryOp::kMaximum:
      return fn(BinaryTag<BinaryOp::kMaximum>());
    case BinaryOp::kMinimum:
      return fn(BinaryTag<BinaryOp::kMinimum>());
    case BinaryOp::kMaximumShare:
      return fn(BinaryTag<BinaryOp::kMaximumShare>());
    case BinaryOp::kMinimumShare:
      return fn(BinaryTag<BinaryOp::kMinimumShare>());
  }
}

// An op that the kernel looks up.
template <typename T>
struct AnyBinaryFn {
  static constexpr bool kReadsOutputs = false;
  BinaryOp op;
  __device__ void operator()(T& y, T a, T b) const {
    DispatchBinary(op, [&](auto tag) { BinaryFn<tag.value, T>()(y, a, b); });
  }
};

// Comparable values: the storage types widened, the others as they are.
template <typename T>
__device__ inline T Comparable(T value) {
  return value;
}
__device__ inline float Comparable(bfloat16 value) { return static_cast<float>(value); }
__device__ inline float Comparable(float16 value) { return static_cast<float>(value); }

struct CompareFn {
  static constexpr bool kReadsOutputs = false;
  CompareOp op;
  template <typename T>
  __device__ void operator()(uint8_t& y, T a, T b) const {
    const auto left = Comparable(a), right = Comparable(b);
    y = op == CompareOp::kEqual  ? left == right
        : op == CompareOp::kLess ? left < right
                                 : left <= right;
  }
};

struct WhereFn {
  static constexpr bool kReadsOutputs = false;
  template <typename T>
  __device__ void operator()(T& y, uint8_t condition, T a, T b) const {
    y = condition != 0 ? a : b;
  }
};

template <typename A, bool kAccumulate>
struct ScaleFn {
  static constexpr bool kReadsOutputs = kAccumulate;
  const A* scale;
  template <typename Y, typename T>
  __device__ void operator()(Y& y, T x) const {
    const A scaled = *scale * A(x);
    y = kAccumulate ? Y(A(y) + scaled) : Y(scaled);
  }
};

}  // namespace

void BinaryCuda(Device& device, const BinaryArgs& args) {
  DispatchFloating(args.y.dtype, "binary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    DispatchBinary(args.op, [&](auto op) {
      Elementwise(device, BinaryFn<op.value, T>(), AnyBinaryFn<T>{args.op}, Out<T>(args.y),
                  In<T>(args.a), In<T>(args.b));
    });
  });
}

void CompareCuda(Device& device, const CompareArgs& args) {
  DispatchAll(args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise(device, CompareFn{args.op}, Out<uint8_t>(args.y), In<T>(args.a), In<T>(args.b));
  });
}

void WhereCuda(Device& device, const WhereArgs& args) {
  DispatchSize(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise(device, WhereFn(), Out<T>(args.y), In<uint8_t>(args.condition), In<T>(args.a),
                In<T>(args.b));
  });
}

void ScaleCuda(Device& device, const ScaleArgs& args) {
  DispatchFloating(args.x.dtype, "scale", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const auto run = [&](auto out_tag) {
      using Y = typename decltype(out_tag)::type;
      if (args.accumulate) {
        Elementwise(device, ScaleFn<A, true>{args.scale.as<A>()}, Out<Y>(args.y), In<T>(args.x));
      } else {
        Elementwise(device, ScaleFn<A, false>{args.scale.as<A>()}, Out<Y>(args.y), In<T>(args.x));
      }
    };
    if (args.y.dtype == DTypeOf<T>::value) return run(TypeTag<T>());
    if (args.y.dtype != DTypeOf<A>::value) NoKernelFor(args.y.dtype, "scale");
    run(TypeTag<A>());
  });
}

}  // namespace trireme
