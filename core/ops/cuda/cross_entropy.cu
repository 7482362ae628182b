// CrossEntropy and its backward, a block a row of logits.
#include <cmath>
#include <type_traits>

#include "core/base/labels.h"
#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/softmax.cuh"
#include "core/ops/softmax.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename T, int kCount>
__global__ void __launch_bounds__(kMaxRowThreads)
    CrossEntropyKernel(const T* logits, const int32_t* labels, AccOf<T>* losses, AccOf<T>* norms,
                       int64_t c, int64_t first, int64_t num_classes, DeviceFaults* faults) {
  using A = AccOf<T>;
  const int64_t row = blockIdx.x;
  const int32_t label = labels[row];
  logits += row * c;
  losses += row;
  norms += 2 * row;
  const bool in_range = label >= 0 && label < num_classes;
  if (!in_range) {
    if (threadIdx.x != 0) return;
    *losses = norms[0] = norms[1] = 0;
    if (label != kIgnoredLabel) {
      ReportFault(faults, DeviceFaultKind::kLabelOutOfRange, label, num_classes);
    }
    return;
  }
  const auto total = ExpSumOfRow<kCount>(logits, c, static_cast<ExpSum<A>*>(SharedBytes()));
  if (threadIdx.x != 0) return;
  const A log_sum = log(total.sum);
  norms[0] = total.max;
  norms[1] = log_sum;
  const int64_t at = label - first;
  if (c == num_classes) {
    *losses = log_sum - (Load(logits + at) - total.max);
  } else {
    *losses = at >= 0 && at < c ? Load(logits + at) : A(0);
  }
}

// dlogits may be logits: every element is read and then written by one thread.
template <typename T, typename D, int kCount>
__global__ void __launch_bounds__(kMaxRowThreads)
    CrossEntropyBackwardKernel(const T* logits, const int32_t* labels, const AccOf<T>* norms,
                               const AccOf<T>* seed, D* dlogits, int64_t c, int64_t first) {
  using A = AccOf<T>;
  const int64_t row = blockIdx.x, label = labels[row];
  logits += row * c;
  dlogits += row * c;
  Chunk<D, kCount> out;
  if (label == kIgnoredLabel) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) out.at[j] = D(A(0));
    return ForEachChunk<kCount>(c, [&](int64_t i) { out.To(dlogits + i); });
  }
  const A max = norms[2 * row], log_sum = norms[2 * row + 1], s = seed != nullptr ? *seed : A(1);
  const A scale = s * exp(-log_sum);
  const int64_t at = label - first;
  ForEachChunk<kCount>(c, [&](int64_t i) {
    const auto values = Chunk<T, kCount>::From(logits + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const A below = A(values.at[j]) - max;
      // At the label in one exponential: near a sure answer, the difference is what is left.
      out.at[j] = D(i + j == at ? s * (exp(below - log_sum) - 1) : scale * exp(below));
    }
    out.To(dlogits + i);
  });
}

template <typename A>
LaunchShape RowShape(int64_t n, int64_t c, int count) {
  return {dim3(n), dim3(RowThreads(c, count)), kMaxWarps * int64_t{sizeof(ExpSum<A>)}};
}

}  // namespace

void CrossEntropyCuda(Device& device, const CrossEntropyArgs& args) {
  const int64_t n = args.logits.sizes[0], c = args.logits.sizes[1];
  DispatchFloating(args.logits.dtype, "cross_entropy", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    constexpr int kCount = kChunk<T>;
    const T* logits = args.logits.as<T>();
    const bool in_chunks = InChunks<kCount>(logits, c);
    LaunchKernel(device, in_chunks ? CrossEntropyKernel<T, kCount> : CrossEntropyKernel<T, 1>,
                 RowShape<A>(n, c, in_chunks ? kCount : 1), logits, args.labels.as<int32_t>(),
                 args.losses.as<A>(), args.norms.as<A>(), c, args.first, args.num_classes,
                 Faults(device));
  });
}

void CrossEntropyBackwardCuda(Device& device, const CrossEntropyBackwardArgs& args) {
  const int64_t n = args.logits.sizes[0], c = args.logits.sizes[1];
  DispatchFloating(args.logits.dtype, "cross_entropy", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const auto run = [&](auto* dlogits) {
      using D = std::remove_pointer_t<decltype(dlogits)>;
      constexpr int kCount = kChunk<T>;
      const T* logits = args.logits.as<T>();
      const bool in_chunks = InChunks<kCount>(logits, c) && InChunks<kCount>(dlogits);
      LaunchKernel(device,
                   in_chunks ? CrossEntropyBackwardKernel<T, D, kCount>
                             : CrossEntropyBackwardKernel<T, D, 1>,
                   RowShape<A>(n, c, in_chunks ? kCount : 1), logits, args.labels.as<int32_t>(),
                   args.norms.as<A>(), args.seed.as<A>(), dlogits, c, args.first);
    };
    if (args.dlogits.dtype == DTypeOf<T>::value) return run(args.dlogits.as<T>());
    if constexpr (std::is_same_v<T, float>) {
      if (args.dlogits.dtype == DType::kBF16) return run(args.dlogits.as<bfloat16>());
    }
    NoKernelFor(args.dlogits.dtype, "cross_entropy");
  });
}

}  // namespace trireme
