// Unary and UnaryBackward. Each op is a function and its derivative in terms of the saved tensor
// (the input, or the output where UnarySavesOutput).
#include <cmath>
#include <numbers>

#include "core/ops/cuda/activation.cuh"
#include "core/ops/cuda/strided_loop.cuh"
#include "core/ops/elementwise.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename A>
struct NegOp {
  A a, b;
  __device__ A Value(A x) const { return -x; }
  __device__ A Slope(A) const { return -1; }
};

template <typename A>
struct AbsOp {
  A a, b;
  __device__ A Value(A x) const { return fabs(x); }
  __device__ A Slope(A x) const { return A(x > 0) - A(x < 0); }
};

template <typename A>
struct ExpOp {
  A a, b;
  __device__ A Value(A x) const { return exp(x); }
  __device__ A Slope(A y) const { return y; }
};

template <typename A>
struct LogOp {
  A a, b;
  __device__ A Value(A x) const { return log(x); }
  __device__ A Slope(A x) const { return 1 / x; }
};

template <typename A>
struct SqrtOp {
  A a, b;
  __device__ A Value(A x) const { return sqrt(x); }
  __device__ A Slope(A y) const { return A(0.5) / y; }
};

template <typename A>
struct PowOp {
  A a, b;
  __device__ A Value(A x) const { return pow(x, a); }
  __device__ A Slope(A x) const { return a * pow(x, a - 1); }
};

template <typename A>
struct TanhOp {
  A a, b;
  __device__ A Value(A x) const { return tanh(x); }
  __device__ A Slope(A y) const { return 1 - y * y; }
};

template <typename A>
struct SigmoidOp {
  A a, b;
  __device__ A Value(A x) const { return Sigmoid(x); }
  __device__ A Slope(A y) const { return y * (1 - y); }
};

template <typename A>
struct ReluOp {
  A a, b;
  __device__ A Value(A x) const { return x < 0 ? 0 : x; }  // NaN stays NaN.
  __device__ A Slope(A y) const { return y > 0; }
};

template <typename A>
struct GeluOp {
  A a, b;
  static __device__ A NormalCdf(A x) { return A(0.5) * (1 + erf(x * A(std::numbers::sqrt2 / 2))); }
  __device__ A Value(A x) const { return x * NormalCdf(x); }
  __device__ A Slope(A x) const {
    constexpr A kDensityAtZero = A(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    return NormalCdf(x) + x * kDensityAtZero * exp(A(-0.5) * x * x);
  }
};

template <typename A>
struct SiluOp {
  A a, b;
  __device__ A Value(A x) const { return x * Sigmoid(x); }
  __device__ A Slope(A x) const {
    const A s = Sigmoid(x);
    return s * (1 + x * (1 - s));
  }
};

template <typename A>
struct SoftplusOp {
  A a, b;
  __device__ A Value(A x) const { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
  __device__ A Slope(A x) const { return Sigmoid(x); }
};

template <typename A>
struct LogSigmoidOp {
  A a, b;
  __device__ A Value(A x) const { return (x < 0 ? x : 0) - log1p(exp(-fabs(x))); }
  __device__ A Slope(A x) const { return Sigmoid(-x); }
};

template <typename A>
struct ClampOp {
  A a, b;
  __device__ A Value(A x) const {
    const A at_least = x < a ? a : x;
    return at_least > b ? b : at_least;
  }
  __device__ A Slope(A x) const { return x >= a && x <= b; }
};

template <typename A>
struct AddOp {
  A a, b;
  __device__ A Value(A x) const { return x + a; }
  __device__ A Slope(A) const { return 1; }
};

template <typename A>
struct MulOp {
  A a, b;
  __device__ A Value(A x) const { return x * a; }
  __device__ A Slope(A) const { return a; }
};

// Calls fn(functor), on the host or on the device.
template <typename A, typename Fn>
__host__ __device__ inline auto DispatchUnary(UnaryOp op, A p, A q, const Fn& fn) {
  switch (op) {
    case UnaryOp::kNeg:
      return fn(NegOp<A>{p, q});
    case UnaryOp::kAbs:
      return fn(AbsOp<A>{p, q});
    case UnaryOp::kExp:
      return fn(ExpOp<A>{p, q});
    case UnaryOp::kLog:
      return fn(LogOp<A>{p, q});
    case UnaryOp::kSqrt:
      return fn(SqrtOp<A>{p, q});
    case UnaryOp::kPow:
      return fn(PowOp<A>{p, q});
    case UnaryOp::kTanh:
      return fn(TanhOp<A>{p, q});
    case UnaryOp::kSigmoid:
      return fn(SigmoidOp<A>{p, q});
    case UnaryOp::kRelu:
      return fn(ReluOp<A>{p, q});
    case UnaryOp::kGelu:
      return fn(GeluOp<A>{p, q});
    case UnaryOp::kSilu:
      return fn(SiluOp<A>{p, q});
    case UnaryOp::kSoftplus:
      return fn(SoftplusOp<A>{p, q});
    case UnaryOp::kLogSigmoid:
      return fn(LogSigmoidOp<A>{p, q});
    case UnaryOp::kClamp:
      return fn(ClampOp<A>{p, q});
    case UnaryOp::kAdd:
      return fn(AddOp<A>{p, q});
    case UnaryOp::kMul:
      break;
  }
  return fn(MulOp<A>{p, q});
}

template <typename T, typename Op>
struct Value {
  static constexpr bool kReadsOutputs = false;
  Op op;
  __device__ void operator()(T& y, T x) const { y = T(op.Value(AccOf<T>(x))); }
};

template <typename T, typename Op>
struct TimesSlope {
  static constexpr bool kReadsOutputs = false;
  Op op;
  __device__ void operator()(T& dx, T dy, T saved) const {
    dx = T(AccOf<T>(dy) * op.Slope(AccOf<T>(saved)));
  }
};

// An op that the kernel looks up.
template <typename A>
struct AnyOp {
  UnaryOp op;
  A a, b;
  __device__ A Value(A x) const {
    return DispatchUnary(op, a, b, [x](const auto& found) { return found.Value(x); });
  }
  __device__ A Slope(A saved) const {
    return DispatchUnary(op, a, b, [saved](const auto& found) { return found.Slope(saved); });
  }
};

}  // namespace

void UnaryCuda(Device& device, const UnaryArgs& args) {
  DispatchFloating(args.x.dtype, "unary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const AnyOp<A> any{args.op, static_cast<A>(args.a), static_cast<A>(args.b)};
    DispatchUnary(args.op, any.a, any.b, [&](auto op) {
      Elementwise(device, Value<T, decltype(op)>{op}, Value<T, AnyOp<A>>{any}, Out<T>(args.y),
                  In<T>(args.x));
    });
  });
}

void UnaryBackwardCuda(Device& device, const UnaryBackwardArgs& args) {
  DispatchFloating(args.dx.dtype, "unary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const AnyOp<A> any{args.op, static_cast<A>(args.a), static_cast<A>(args.b)};
    DispatchUnary(args.op, any.a, any.b, [&](auto op) {
      Elementwise(device, TimesSlope<T, decltype(op)>{op}, TimesSlope<T, AnyOp<A>>{any},
                  Out<T>(args.dx), In<T>(args.dy), In<T>(args.saved));
    });
  });
}

}  // namespace trireme
