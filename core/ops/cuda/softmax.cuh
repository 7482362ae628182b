// What Softmax and CrossEntropy share: the maximum of a row and the sum of exponentials below it,
// in one pass ("online").
#pragma once

#include <cstdint>
#include <limits>

#include "core/ops/cuda/block_reduce.cuh"
#include "core/ops/cuda/element.cuh"

namespace trireme {

// sum = sum of e^(x - max) over what was added; max is -infinity at first.
template <typename A>
struct ExpSum {
  A max = -std::numeric_limits<A>::infinity();
  A sum = 0;

  // max as a subtrahend: what is all -infinity has the sum 0, not NaN.
  __device__ A Base() const { return max == -std::numeric_limits<A>::infinity() ? A(0) : max; }
};

template <typename A>
__device__ inline ExpSum<A> ShuffleXor(const ExpSum<A>& x, int mask) {
  return {trireme::ShuffleXor(x.max, mask), trireme::ShuffleXor(x.sum, mask)};
}

template <typename A>
struct MergedOf {
  __device__ ExpSum<A> operator()(const ExpSum<A>& a, const ExpSum<A>& b) const {
    ExpSum<A> merged{a.max > b.max ? a.max : b.max, 0};
    const A base = merged.Base();
    merged.sum = a.sum * exp(a.max - base) + b.sum * exp(b.max - base);
    return merged;
  }
};

// Of the block's row x [c]; the same in all threads. `shared` has room for kMaxWarps.
template <int kCount, typename T, typename A>
__device__ inline ExpSum<A> ExpSumOfRow(const T* x, int64_t c, ExpSum<A>* shared) {
  using C = Chunk<T, kCount>;
  ExpSum<A> total;
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const C values = C::From(x + i);
    const A before = total.max;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const A value = A(values.at[j]);
      total.max = value > total.max ? value : total.max;
    }
    const A base = total.Base();
    total.sum *= exp(before - base);
#pragma unroll
    for (int j = 0; j < kCount; ++j) total.sum += exp(A(values.at[j]) - base);
  });
  return BlockReduce(total, ExpSum<A>(), shared, MergedOf<A>());
}

}  // namespace trireme
