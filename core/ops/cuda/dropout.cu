// Dropout: a thread computes eight neighbouring channels, two blocks of random numbers.
#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/element.cuh"
#include "core/ops/dropout.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 4;  // Of a block of random numbers.
constexpr int kChannels = 2 * kLanes;

template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    DropoutKernel(const T* x, const int64_t* samples, const int32_t* positions, T* y, int64_t n,
                  int64_t c, RngKey key, uint32_t threshold, AccOf<T> scale) {
  using A = AccOf<T>;
  const int64_t parts = (c + kChannels - 1) / kChannels;
  const int64_t num_threads = int64_t{gridDim.x} * kThreads;
  for (int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x; p < n * parts; p += num_threads) {
    const int64_t token = p / parts, first = p % parts * kChannels;
    const uint64_t high = uint64_t{static_cast<uint32_t>(positions[token])} << 32;
    const uint64_t sample = static_cast<uint64_t>(samples[token]);
    uint32_t bits[kChannels];
#pragma unroll
    for (int k = 0; k < kChannels; k += kLanes) {
      const RngBlock block =
          Philox(key, high | static_cast<uint64_t>((first + k) / kLanes), sample);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) bits[k + lane] = block[lane];
    }
#pragma unroll
    for (int k = 0; k < kChannels; k += kCount) {
      if (first + k >= c) break;
      auto values = Chunk<T, kCount>::From(x + token * c + first + k);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const A scaled = A(values.at[j]) * scale;
        values.at[j] = T(bits[k + j] >= threshold ? scaled : A(0));
      }
      values.To(y + token * c + first + k);
    }
  }
}

}  // namespace

void DropoutCuda(Device& device, const DropoutArgs& args) {
  const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
  DispatchFloating(args.x.dtype, "dropout", [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kCount = kChunk<T>;
    const T* x = args.x.as<T>();
    T* y = args.y.as<T>();
    const bool in_chunks = InChunks<kCount>(x, c) && InChunks<kCount>(y);
    LaunchKernel(device, in_chunks ? DropoutKernel<T, kCount> : DropoutKernel<T, 1>,
                 OverElements(n * ((c + kChannels - 1) / kChannels), kThreads), x,
                 args.sample.as<int64_t>(), args.position.as<int32_t>(), y, n, c, args.key,
                 args.threshold, static_cast<AccOf<T>>(args.scale));
  });
}

}  // namespace trireme
