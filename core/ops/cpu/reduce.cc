// Sum and Max on the CPU.
#include "core/ops/reduce.h"

#include <algorithm>

#include "core/base/log.h"
#include "core/ops/cpu/column_sums.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int64_t kElementGrain = 16384;
// Elements whose sum is one partial sum: short enough that f32 rounding does not add up.
constexpr int64_t kElementChunk = 4096;

// y[o] of a dense x [outer, n]: chunks of each row in parallel, then their sums in order.
template <typename T, typename Y, typename A>
void RowSums(CpuDevice& cpu, const T* x, Y* y, int64_t outer, int64_t n, A scale, bool accumulate) {
  if (outer == 0) return;
  const int64_t chunks = std::max<int64_t>(1, (n + kElementChunk - 1) / kElementChunk);
  const auto partial_sums =
      Storage::Allocate(cpu, outer * chunks * sizeof(A), MemoryKind::kWorkspace, "row sums");
  A* partial = static_cast<A*>(partial_sums->data());
  const int64_t grain =
      std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, std::min(n, kElementChunk)));
  cpu.ParallelFor(outer * chunks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t % chunks * kElementChunk;
      const T* row = x + t / chunks * n + first;
      partial[t] =
          SumRow<A>(std::min(n - first, kElementChunk), [row](int64_t i) { return Load(row + i); });
    }
  });
  for (int64_t o = 0; o < outer; ++o) {
    const A sum = SumRow<A>(chunks, [p = partial + o * chunks](int64_t i) { return p[i]; });
    Store(y + o, scale * sum + (accumulate ? A(Load(y + o)) : A(0)));
  }
}

template <typename T, typename A>
void AddRows(const T* x, int64_t rows, int64_t stride, A* acc, int64_t n) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * stride) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      acc[i] += (Load(x + i) + Load(x + stride + i)) +
                (Load(x + 2 * stride + i) + Load(x + 3 * stride + i));
    }
  }
  for (; r < rows; ++r, x += stride) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) acc[i] += Load(x + i);
  }
}

template <typename T>
bool IsGreater(T a, T b) {
  return a > b || (a != a && b == b);
}

}  // namespace

void SumCpu(Device& device, const SumArgs& args) {
  CpuDevice& cpu = AsCpu(device);
  const int64_t outer = args.x.sizes[0], n = args.x.sizes[1], inner = args.x.sizes[2];
  DispatchFloating(args.x.dtype, "sum", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const T* x = args.x.as<T>();
    const A scale = static_cast<A>(args.scale);
    const auto run = [&](auto* y) {
      if (inner == 1) return RowSums(cpu, x, y, outer, n, scale, args.accumulate);
      ColumnSums(cpu, y, outer, n, inner, scale, args.accumulate,
                 [&](A* acc, int64_t o, int64_t r0, int64_t r1, int64_t i0, int64_t i1) {
                   AddRows(x + (o * n + r0) * inner + i0, r1 - r0, inner, acc, i1 - i0);
                 });
    };
    if (args.y.dtype == DTypeOf<T>::value) return run(args.y.as<T>());
    CHECK(args.y.dtype == DTypeOf<A>::value) << DTypeName(args.y.dtype) << " [sum]";
    run(args.y.as<A>());
  });
}

void MaxCpu(Device& device, const MaxArgs& args) {
  const int64_t outer = args.x.sizes[0], n = args.x.sizes[1], inner = args.x.sizes[2];
  DispatchFloating(args.x.dtype, "max", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, n));
    AsCpu(device).ParallelFor(outer * inner, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const T* x = args.x.as<T>() + t / inner * n * inner + t % inner;
        int64_t best = 0;
        for (int64_t i = 1; i < n; ++i) {
          if (IsGreater(Load(x + i * inner), Load(x + best * inner))) best = i;
        }
        if (args.values.defined()) args.values.as<T>()[t] = x[best * inner];
        if (args.indices.defined()) args.indices.as<int64_t>()[t] = best;
      }
    });
  });
}

}  // namespace trireme
