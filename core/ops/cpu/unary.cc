// Unary and UnaryBackward on the CPU. Each op is a function and its derivative in terms of the
// saved tensor (the input, or the output where UnarySavesOutput).
#include <cmath>
#include <numbers>

#include "core/ops/cpu/element.h"
#include "core/ops/cpu/strided_loop.h"
#include "core/ops/cpu/vector_math.h"
#include "core/ops/elementwise.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename A>
struct NegOp {
  A a, b;
  A Value(A x) const { return -x; }
  A Slope(A) const { return -1; }
};

template <typename A>
struct AbsOp {
  A a, b;
  A Value(A x) const { return std::abs(x); }
  A Slope(A x) const { return A(x > 0) - A(x < 0); }
};

template <typename A>
struct ExpOp {
  A a, b;
  A Value(A x) const { return Exp(x); }
  A Slope(A y) const { return y; }
};

template <typename A>
struct LogOp {
  A a, b;
  A Value(A x) const { return std::log(x); }
  A Slope(A x) const { return 1 / x; }
};

template <typename A>
struct SqrtOp {
  A a, b;
  A Value(A x) const { return std::sqrt(x); }
  A Slope(A y) const { return A(0.5) / y; }
};

template <typename A>
struct PowOp {
  A a, b;
  A Value(A x) const { return std::pow(x, a); }
  A Slope(A x) const { return a * std::pow(x, a - 1); }
};

template <typename A>
struct TanhOp {
  A a, b;
  A Value(A x) const { return Tanh(x); }
  A Slope(A y) const { return 1 - y * y; }
};

template <typename A>
struct SigmoidOp {
  A a, b;
  A Value(A x) const { return Sigmoid(x); }
  A Slope(A y) const { return y * (1 - y); }
};

template <typename A>
struct ReluOp {
  A a, b;
  A Value(A x) const { return x < 0 ? 0 : x; }  // NaN stays NaN.
  A Slope(A y) const { return y > 0; }
};

template <typename A>
struct GeluOp {
  A a, b;
  static A NormalCdf(A x) { return A(0.5) * (1 + Erf(x * A(std::numbers::sqrt2 / 2))); }
  A Value(A x) const { return x * NormalCdf(x); }
  A Slope(A x) const {
    constexpr A kDensityAtZero = A(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    return NormalCdf(x) + x * kDensityAtZero * Exp(A(-0.5) * x * x);
  }
};

template <typename A>
struct SiluOp {
  A a, b;
  A Value(A x) const { return x * Sigmoid(x); }
  A Slope(A x) const {
    const A s = Sigmoid(x);
    return s * (1 + x * (1 - s));
  }
};

template <typename A>
struct SoftplusOp {
  A a, b;
  A Value(A x) const { return (x > 0 ? x : 0) + std::log1p(Exp(-std::abs(x))); }
  A Slope(A x) const { return Sigmoid(x); }
};

template <typename A>
struct LogSigmoidOp {
  A a, b;
  A Value(A x) const { return (x < 0 ? x : 0) - std::log1p(Exp(-std::abs(x))); }
  A Slope(A x) const { return Sigmoid(-x); }
};

template <typename A>
struct ClampOp {
  A a, b;
  A Value(A x) const {
    const A at_least = x < a ? a : x;
    return at_least > b ? b : at_least;
  }
  A Slope(A x) const { return x >= a && x <= b; }
};

template <typename A>
struct AddOp {
  A a, b;
  A Value(A x) const { return x + a; }
  A Slope(A) const { return 1; }
};

template <typename A>
struct MulOp {
  A a, b;
  A Value(A x) const { return x * a; }
  A Slope(A) const { return a; }
};

// Calls fn(functor).
template <typename A, typename Fn>
void DispatchUnary(UnaryOp op, double a, double b, Fn fn) {
  const A p = static_cast<A>(a), q = static_cast<A>(b);
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
      return fn(MulOp<A>{p, q});
  }
}

}  // namespace

void UnaryCpu(Device& device, const UnaryArgs& args) {
  DispatchFloating(args.x.dtype, "unary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    DispatchUnary<AccOf<T>>(args.op, args.a, args.b, [&](auto op) {
      ForEachRow(AsCpu(device), {&args.y, &args.x}, [&](const Row& row) {
        T* y = args.y.as<T>() + row.offset[0];
        const T* x = args.x.as<T>() + row.offset[1];
        if (row.dense) {
          SimdLoop(row.count, [=](int64_t i) { Store(y + i, op.Value(Load(x + i))); });
        } else {
          const int64_t sy = row.stride[0], sx = row.stride[1];
          for (int64_t i = 0; i < row.count; ++i) Store(y + i * sy, op.Value(Load(x + i * sx)));
        }
      });
    });
  });
}

void UnaryBackwardCpu(Device& device, const UnaryBackwardArgs& args) {
  DispatchFloating(args.dx.dtype, "unary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    DispatchUnary<AccOf<T>>(args.op, args.a, args.b, [&](auto op) {
      ForEachRow(AsCpu(device), {&args.dx, &args.dy, &args.saved}, [&](const Row& row) {
        T* dx = args.dx.as<T>() + row.offset[0];
        const T* dy = args.dy.as<T>() + row.offset[1];
        const T* saved = args.saved.as<T>() + row.offset[2];
        if (row.dense) {
          SimdLoop(row.count,
                   [=](int64_t i) { Store(dx + i, Load(dy + i) * op.Slope(Load(saved + i))); });
        } else {
          const int64_t sx = row.stride[0], sy = row.stride[1], ss = row.stride[2];
          for (int64_t i = 0; i < row.count; ++i) {
            Store(dx + i * sx, Load(dy + i * sy) * op.Slope(Load(saved + i * ss)));
          }
        }
      });
    });
  });
}

}  // namespace trireme
