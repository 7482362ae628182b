#include "parallel/comm/reduce.h"

#include <algorithm>
#include <type_traits>

#include "core/base/log.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int64_t kTile = 512;  // The accumulators stay in the first-level cache.

// Integers are summed as unsigned: they wrap, which is undefined for signed ones.
template <typename T>
using Accumulator = std::conditional_t<std::is_integral_v<T>, uint64_t, AccOf<T>>;

template <typename T, typename A>
void Combine(ReduceOp op, const T* x, A* acc, int64_t n) {
  using Ordered = std::conditional_t<std::is_integral_v<T>, int64_t, A>;
  switch (op) {
    case ReduceOp::kSum:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) acc[i] += A(x[i]);
      return;
    case ReduceOp::kMax:
      for (int64_t i = 0; i < n; ++i) {
        const Ordered a = Ordered(acc[i]), b = Ordered(A(x[i]));
        acc[i] = A(b > a || b != b ? b : a);
      }
      return;
    case ReduceOp::kMin:
      for (int64_t i = 0; i < n; ++i) {
        const Ordered a = Ordered(acc[i]), b = Ordered(A(x[i]));
        acc[i] = A(b < a || b != b ? b : a);
      }
      return;
  }
}

template <typename T>
void ReduceAs(const Reduction& reduction, absl::Span<const char* const> inputs, T* output,
              int64_t count) {
  using A = Accumulator<T>;
  A acc[kTile];
  for (int64_t begin = 0; begin < count; begin += kTile) {
    const int64_t n = std::min(kTile, count - begin);
    bool first = true;
    for (const int rank : reduction.order) {
      const T* x = reinterpret_cast<const T*>(inputs[rank]) + begin;
      if constexpr (!std::is_integral_v<T>) {
        if (!reduction.weights.empty()) {
          const A weight = static_cast<A>(reduction.weights[rank]);
          if (first) {
#pragma omp simd
            for (int64_t i = 0; i < n; ++i) acc[i] = weight * A(x[i]);
          } else if (reduction.op == ReduceOp::kSum) {
#pragma omp simd
            for (int64_t i = 0; i < n; ++i) acc[i] += weight * A(x[i]);
          } else {
            A scaled[kTile];
            for (int64_t i = 0; i < n; ++i) scaled[i] = weight * A(x[i]);
            Combine(reduction.op, scaled, acc, n);
          }
          first = false;
          continue;
        }
      }
      if (first) {
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) acc[i] = A(x[i]);
      } else {
        Combine(reduction.op, x, acc, n);
      }
      first = false;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) output[begin + i] = T(acc[i]);
  }
}

}  // namespace

void Reduce(const Reduction& reduction, absl::Span<const char* const> inputs, char* output,
            int64_t count) {
  CHECK_EQ(reduction.order.size(), inputs.size());
  DispatchAll(reduction.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    ReduceAs<T>(reduction, inputs, reinterpret_cast<T*>(output), count);
  });
}

}  // namespace trireme
