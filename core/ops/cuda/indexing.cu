// Embedding, Gather, ScatterAdd. Sums run in the order of the indices: a row of the result belongs
// to one group of threads, which walks the indices and picks its own.
#include <algorithm>

#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/block_reduce.cuh"
#include "core/ops/cuda/element.cuh"
#include "core/ops/indexing.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int kThreads = 256;

// A block a row.
template <typename T, int kCount>
__global__ void __launch_bounds__(kMaxRowThreads)
    EmbeddingKernel(const int64_t* ids, const T* table, T* y, int64_t rows, int64_t c,
                    int64_t first, int64_t count, DeviceFaults* faults) {
  using C = Chunk<T, kCount>;
  const int64_t id = ids[blockIdx.x], row = id - first;
  const bool valid = id >= 0 && id < count;
  if (!valid && threadIdx.x == 0) {
    ReportFault(faults, DeviceFaultKind::kIdOutOfRange, id, count);
  }
  const bool here = valid && row >= 0 && row < rows;
  ForEachChunk<kCount>(c, [&](int64_t i) {
    (here ? C::From(table + row * c + i) : C{}).To(y + blockIdx.x * c + i);
  });
}

// Threads own columns of the rows that are `owner` modulo kOwners. Indices come in blocks; the
// threads first gather those of their rows, in order, then add them up.
constexpr int kColumns = 128;
constexpr int kOwners = 32;

struct OwnRows {
  int64_t row[kColumns];
  int64_t index[kColumns];
  int warp_counts[kColumns / kWarp];
};

template <typename T>
__global__ void __launch_bounds__(kColumns)
    EmbeddingBackwardKernel(const int64_t* ids, const T* dy, AccOf<T>* dtable, int64_t n, int64_t c,
                            int64_t rows, int64_t first) {
  OwnRows& own = *static_cast<OwnRows*>(SharedBytes());
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t owner = blockIdx.x % kOwners;
  const int64_t column = int64_t{blockIdx.x / kOwners} * kColumns + threadIdx.x;
  for (int64_t begin = 0; begin < n; begin += kColumns) {
    const int64_t index = begin + threadIdx.x;
    const int64_t row = index < n ? ids[index] - first : -1;
    const bool mine = row >= 0 && row < rows && row % kOwners == owner;
    const unsigned mask = __ballot_sync(kAllLanes, mine);
    if (lane == 0) own.warp_counts[warp] = __popc(mask);
    __syncthreads();
    int place = __popc(mask & ((1u << lane) - 1)), count = 0;
    for (int w = 0; w < kColumns / kWarp; ++w) {
      if (w < warp) place += own.warp_counts[w];
      count += own.warp_counts[w];
    }
    if (mine) {
      own.row[place] = row;
      own.index[place] = index;
    }
    __syncthreads();
    for (int k = 0; k < count && column < c; ++k) {
      dtable[own.row[k] * c + column] += Load(dy + own.index[k] * c + column);
    }
    __syncthreads();
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    GatherKernel(const T* x, const int64_t* index, T* y, int64_t total, int64_t m, int64_t n,
                 int64_t inner, DeviceFaults* faults) {
  const int64_t num_threads = int64_t{gridDim.x} * kThreads;
  for (int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x; t < total; t += num_threads) {
    const int64_t o = t / (n * inner), i = t % inner, k = index[t];
    if (k >= 0 && k < m) {
      y[t] = x[(o * m + k) * inner + i];
    } else {
      y[t] = T();
      ReportFault(faults, DeviceFaultKind::kIndexOutOfRange, k, m);
    }
  }
}

// A thread owns (o, i) and the rows that are `owner` modulo `owners`.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    ScatterAddKernel(const int64_t* index, const T* src, AccOf<T>* y, int64_t outer, int64_t m,
                     int64_t n, int64_t inner, int64_t owners, DeviceFaults* faults) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= outer * owners * inner) return;
  const int64_t i = t % inner, owner = t / inner % owners, o = t / inner / owners;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t at = (o * n + k) * inner + i, row = index[at];
    if (row < 0 || row >= m) {
      ReportFault(faults, DeviceFaultKind::kIndexOutOfRange, row, m);
    } else if (row % owners == owner) {
      y[(o * m + row) * inner + i] += Load(src + at);
    }
  }
}

}  // namespace

void EmbeddingCuda(Device& device, const EmbeddingArgs& args) {
  const int64_t n = args.y.sizes[0], c = args.y.sizes[1], rows = args.table.sizes[0];
  DispatchSize(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kCount = kChunk<T>;
    const T* table = args.table.as<T>();
    T* y = args.y.as<T>();
    const bool in_chunks = InChunks<kCount>(table, c) && InChunks<kCount>(y);
    LaunchKernel(device, in_chunks ? EmbeddingKernel<T, kCount> : EmbeddingKernel<T, 1>,
                 {dim3(n), dim3(RowThreads(c, in_chunks ? kCount : 1))}, args.ids.as<int64_t>(),
                 table, y, rows, c, args.first, args.count, Faults(device));
  });
}

void EmbeddingBackwardCuda(Device& device, const EmbeddingBackwardArgs& args) {
  const int64_t n = args.dy.sizes[0], c = args.dy.sizes[1], rows = args.dtable.sizes[0];
  DispatchFloating(args.dy.dtype, "embedding", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    if (args.dtable.dtype != DTypeOf<A>::value) NoKernelFor(args.dtable.dtype, "embedding");
    if (args.fresh && args.dtable.numel() > 0) {
      CUDA_OR_THROW(cudaMemsetAsync(args.dtable.data, 0, args.dtable.numel() * sizeof(A),
                                    ComputeStream(device)));
    }
    if (rows == 0) return;
    const int64_t blocks = (c + kColumns - 1) / kColumns * kOwners;
    LaunchKernel(device, EmbeddingBackwardKernel<T>,
                 {dim3(blocks), dim3(kColumns), int64_t{sizeof(OwnRows)}}, args.ids.as<int64_t>(),
                 args.dy.as<T>(), args.dtable.as<A>(), n, c, rows, args.first);
  });
}

void GatherCuda(Device& device, const GatherArgs& args) {
  const int64_t total = args.y.numel(), n = args.y.sizes[1], inner = args.y.sizes[2];
  DispatchSize(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    LaunchKernel(device, GatherKernel<T>, OverElements(total, kThreads), args.x.as<T>(),
                 args.index.as<int64_t>(), args.y.as<T>(), total, args.x.sizes[1], n, inner,
                 Faults(device));
  });
}

void ScatterAddCuda(Device& device, const ScatterAddArgs& args) {
  const int64_t outer = args.index.sizes[0], n = args.index.sizes[1], inner = args.index.sizes[2];
  const int64_t m = args.y.sizes[1];
  // Long walks are shared; a few indices are not worth it.
  const int64_t owners = std::clamp<int64_t>(n / 64, 1, 64);
  DispatchFloating(args.src.dtype, "scatter_add", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    if (args.y.dtype != DTypeOf<A>::value) NoKernelFor(args.y.dtype, "scatter_add");
    LaunchKernel(device, ScatterAddKernel<T>,
                 OverElements(outer * owners * inner, kThreads, kMaxGridX),
                 args.index.as<int64_t>(), args.src.as<T>(), args.y.as<A>(), outer, m, n, inner,
                 owners, Faults(device));
  });
}

}  // namespace trireme
