// Sum and Max.
#include "core/ops/cuda/sums.cuh"
#include "core/ops/reduce.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename T>
struct WidenedTerm {
  const T* x;
  int64_t rows, inner;
  __device__ AccOf<T> operator()(int64_t o, int64_t r, int64_t i) const {
    return Load(x + (o * rows + r) * inner + i);
  }
};

// An element and where it was; index -1 is none.
template <typename A>
struct Candidate {
  A value;
  int64_t index;
};

template <typename A>
__device__ inline Candidate<A> ShuffleXor(const Candidate<A>& x, int mask) {
  return {trireme::ShuffleXor(x.value, mask), __shfl_xor_sync(kAllLanes, x.index, mask)};
}

// The larger one, the first among equals; NaN is the largest.
template <typename A>
struct BetterOf {
  static __device__ bool IsGreater(A a, A b) { return a > b || (a != a && b == b); }
  __device__ Candidate<A> operator()(const Candidate<A>& a, const Candidate<A>& b) const {
    if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
    if (IsGreater(a.value, b.value)) return a;
    if (IsGreater(b.value, a.value)) return b;
    return a.index < b.index ? a : b;
  }
};

template <typename T>
struct MaxTarget {
  T* values;
  int64_t* indices;
  __device__ void Put(int64_t at, const Candidate<AccOf<T>>& best) const {
    if (values != nullptr) Store(values + at, best.value);
    if (indices != nullptr) indices[at] = best.index;
  }
};

// A block a row.
template <typename T>
__global__ void __launch_bounds__(kMaxRowThreads)
    MaxOfRow(const T* x, int64_t n, MaxTarget<T> target) {
  using C = Candidate<AccOf<T>>;
  const BetterOf<AccOf<T>> better;
  C best = {0, -1};
  ForEachChunk<1>(n, [&](int64_t i) { best = better(best, C{Load(x + blockIdx.x * n + i), i}); });
  best = BlockReduce(best, C{0, -1}, static_cast<C*>(SharedBytes()), better);
  if (threadIdx.x == 0) target.Put(blockIdx.x, best);
}

// A thread a column.
template <typename T>
__global__ void __launch_bounds__(256)
    MaxOfColumn(const T* x, int64_t outer, int64_t n, int64_t inner, MaxTarget<T> target) {
  using C = Candidate<AccOf<T>>;
  const int64_t t = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (t >= outer * inner) return;
  const T* from = x + t / inner * n * inner + t % inner;
  C best = {Load(from), 0};
  for (int64_t i = 1; i < n; ++i) {
    const C next = {Load(from + i * inner), i};
    if (BetterOf<AccOf<T>>::IsGreater(next.value, best.value)) best = next;
  }
  target.Put(t, best);
}

}  // namespace

void SumCuda(Device& device, const SumArgs& args) {
  const int64_t outer = args.x.sizes[0], n = args.x.sizes[1], inner = args.x.sizes[2];
  DispatchFloating(args.x.dtype, "sum", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const auto run = [&](auto* y) {
      const SumTarget target{y, static_cast<A>(args.scale), args.accumulate};
      if (inner == 1) {
        RowSums(device, args.x.as<const T>(), outer, n, Identity<A>(), target);
      } else {
        ColumnSums(device, outer, n, inner, WidenedTerm<T>{args.x.as<T>(), n, inner}, target);
      }
    };
    if (args.y.dtype == DTypeOf<T>::value) return run(args.y.as<T>());
    if (args.y.dtype != DTypeOf<A>::value) NoKernelFor(args.y.dtype, "sum");
    run(args.y.as<A>());
  });
}

void MaxCuda(Device& device, const MaxArgs& args) {
  const int64_t outer = args.x.sizes[0], n = args.x.sizes[1], inner = args.x.sizes[2];
  DispatchFloating(args.x.dtype, "max", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const MaxTarget<T> target{args.values.as<T>(), args.indices.as<int64_t>()};
    if (inner == 1) {
      const int64_t shared_bytes = kMaxWarps * sizeof(Candidate<AccOf<T>>);
      LaunchKernel(device, MaxOfRow<T>, {dim3(outer), dim3(RowThreads(n, 4)), shared_bytes},
                   args.x.as<T>(), n, target);
    } else {
      const LaunchShape shape = OverElements(outer * inner, 256, kMaxGridX);
      LaunchKernel(device, MaxOfColumn<T>, shape, args.x.as<T>(), outer, n, inner, target);
    }
  });
}

}  // namespace trireme
