// Binary, Compare, Where and Scale on the CPU.
#include "core/base/log.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/strided_loop.h"
#include "core/ops/elementwise.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename A, typename Fn>
void DispatchBinary(BinaryOp op, Fn fn) {
  // A comparison with NaN is false: the order of operands below lets NaN through from both sides.
  switch (op) {
    case BinaryOp::kAdd:
      return fn([](A a, A b) { return a + b; });
    case BinaryOp::kSub:
      return fn([](A a, A b) { return a - b; });
    case BinaryOp::kMul:
      return fn([](A a, A b) { return a * b; });
    case BinaryOp::kDiv:
      return fn([](A a, A b) { return a / b; });
    case BinaryOp::kMaximum:
      return fn([](A a, A b) { return a > b || a != a ? a : b; });
    case BinaryOp::kMinimum:
      return fn([](A a, A b) { return a < b || a != a ? a : b; });
    case BinaryOp::kMaximumShare:
      return fn([](A a, A b) { return a > b ? A(1) : a < b ? A(0) : A(0.5); });
    case BinaryOp::kMinimumShare:
      return fn([](A a, A b) { return a < b ? A(1) : a > b ? A(0) : A(0.5); });
  }
}

template <typename Fn>
void DispatchCompare(CompareOp op, Fn fn) {
  switch (op) {
    case CompareOp::kEqual:
      return fn([](auto a, auto b) { return a == b; });
    case CompareOp::kLess:
      return fn([](auto a, auto b) { return a < b; });
    case CompareOp::kLessEqual:
      return fn([](auto a, auto b) { return a <= b; });
  }
}

// Comparable values: the storage types widened, the others as they are.
template <typename T>
T Comparable(T value) {
  return value;
}
float Comparable(bfloat16 value) { return static_cast<float>(value); }
float Comparable(float16 value) { return static_cast<float>(value); }

}  // namespace

void BinaryCpu(Device& device, const BinaryArgs& args) {
  DispatchFloating(args.y.dtype, "binary", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    DispatchBinary<A>(args.op, [&](auto op) {
      ForEachRow(AsCpu(device), {&args.y, &args.a, &args.b}, [&](const Row& row) {
        T* y = args.y.as<T>() + row.offset[0];
        const T* a = args.a.as<T>() + row.offset[1];
        const T* b = args.b.as<T>() + row.offset[2];
        const int64_t n = row.count;
        const int64_t sy = row.stride[0], sa = row.stride[1], sb = row.stride[2];
        if (row.dense) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) Store(y + i, op(Load(a + i), Load(b + i)));
        } else if (sy == 1 && sa == 1 && sb == 0) {
          const A value = Load(b);
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) Store(y + i, op(Load(a + i), value));
        } else if (sy == 1 && sa == 0 && sb == 1) {
          const A value = Load(a);
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) Store(y + i, op(value, Load(b + i)));
        } else {
          for (int64_t i = 0; i < n; ++i) {
            Store(y + i * sy, op(Load(a + i * sa), Load(b + i * sb)));
          }
        }
      });
    });
  });
}

void CompareCpu(Device& device, const CompareArgs& args) {
  DispatchAll(args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    DispatchCompare(args.op, [&](auto op) {
      ForEachRow(AsCpu(device), {&args.y, &args.a, &args.b}, [&](const Row& row) {
        uint8_t* y = args.y.as<uint8_t>() + row.offset[0];
        const T* a = args.a.as<T>() + row.offset[1];
        const T* b = args.b.as<T>() + row.offset[2];
        const int64_t sy = row.stride[0], sa = row.stride[1], sb = row.stride[2];
        for (int64_t i = 0; i < row.count; ++i) {
          y[i * sy] = op(Comparable(a[i * sa]), Comparable(b[i * sb]));
        }
      });
    });
  });
}

void WhereCpu(Device& device, const WhereArgs& args) {
  DispatchSize(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    ForEachRow(AsCpu(device), {&args.y, &args.condition, &args.a, &args.b}, [&](const Row& row) {
      T* y = args.y.as<T>() + row.offset[0];
      const uint8_t* condition = args.condition.as<uint8_t>() + row.offset[1];
      const T* a = args.a.as<T>() + row.offset[2];
      const T* b = args.b.as<T>() + row.offset[3];
      const int64_t sy = row.stride[0], sc = row.stride[1], sa = row.stride[2], sb = row.stride[3];
      for (int64_t i = 0; i < row.count; ++i) {
        y[i * sy] = condition[i * sc] != 0 ? a[i * sa] : b[i * sb];
      }
    });
  });
}

void ScaleCpu(Device& device, const ScaleArgs& args) {
  DispatchFloating(args.x.dtype, "scale", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const A scale = *args.scale.as<A>();
    const auto run = [&](auto out_tag) {
      using Y = typename decltype(out_tag)::type;
      ForEachRow(AsCpu(device), {&args.y, &args.x}, [&](const Row& row) {
        Y* y = args.y.as<Y>() + row.offset[0];
        const T* x = args.x.as<T>() + row.offset[1];
        const int64_t sy = row.stride[0], sx = row.stride[1];
        if (row.dense && !args.accumulate) {
#pragma omp simd
          for (int64_t i = 0; i < row.count; ++i) Store(y + i, scale * Load(x + i));
        } else if (row.dense) {
#pragma omp simd
          for (int64_t i = 0; i < row.count; ++i) Store(y + i, Load(y + i) + scale * Load(x + i));
        } else {
          for (int64_t i = 0; i < row.count; ++i) {
            const A before = args.accumulate ? Load(y + i * sy) : A(0);
            Store(y + i * sy, before + scale * Load(x + i * sx));
          }
        }
      });
    };
    if (args.y.dtype == DTypeOf<T>::value) {
      run(TypeTag<T>());
    } else {
      CHECK(args.y.dtype == DTypeOf<A>::value) << DTypeName(args.y.dtype) << " [scale]";
      run(TypeTag<A>());
    }
  });
}

}  // namespace trireme
