// Embedding, Gather, ScatterAdd on the CPU. Sums run in the order of the indices: work is shared by
// columns that no two tiles have in common.
#include "core/ops/indexing.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/status.h"
#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int64_t kGrain = 16384;
constexpr int64_t kColumnBlock = 128;

void CheckRange(const int64_t* ids, int64_t n, int64_t size, const char* op) {
  const int64_t* wrong =
      std::find_if(ids, ids + n, [size](int64_t id) { return id < 0 || id >= size; });
  if (wrong == ids + n) return;
  throw Failure(absl::OutOfRangeError(absl::StrCat("index ", *wrong, " (element ", wrong - ids,
                                                   ") is not in [0, ", size, ") [", op, "]")));
}

}  // namespace

void EmbeddingCpu(Device& device, const EmbeddingArgs& args) {
  const int64_t n = args.y.sizes[0], c = args.y.sizes[1];
  const int64_t* ids = args.ids.as<int64_t>();
  CheckRange(ids, n, args.count, "embedding");
  const int64_t rows = args.table.sizes[0];
  const int64_t row_bytes = c * DTypeSize(args.y.dtype);
  const char* table = args.table.as<char>();
  char* y = args.y.as<char>();
  AsCpu(device).ParallelFor(
      n, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, c)), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = ids[i] - args.first;
          if (row >= 0 && row < rows) {
            std::memcpy(y + i * row_bytes, table + row * row_bytes, row_bytes);
          } else {
            std::memset(y + i * row_bytes, 0, row_bytes);
          }
        }
      });
}

void EmbeddingBackwardCpu(Device& device, const EmbeddingBackwardArgs& args) {
  const int64_t n = args.dy.sizes[0], c = args.dy.sizes[1], rows = args.dtable.sizes[0];
  const int64_t* ids = args.ids.as<int64_t>();
  DispatchFloating(args.dy.dtype, "embedding", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    CHECK(args.dtable.dtype == DTypeOf<A>::value) << "[embedding]";
    const T* dy = args.dy.as<T>();
    A* dtable = args.dtable.as<A>();
    if (args.fresh) {
      AsCpu(device).ParallelFor(rows * c, kGrain, [&](int64_t begin, int64_t end) {
        std::fill(dtable + begin, dtable + end, A(0));
      });
    }
    AsCpu(device).ParallelFor(c, kColumnBlock, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < n; ++i) {
        const int64_t row = ids[i] - args.first;
        if (row < 0 || row >= rows) continue;
        A* out = dtable + row * c;
        const T* in = dy + i * c;
#pragma omp simd
        for (int64_t j = begin; j < end; ++j) out[j] += Load(in + j);
      }
    });
  });
}

void GatherCpu(Device& device, const GatherArgs& args) {
  const int64_t outer = args.y.sizes[0], n = args.y.sizes[1], inner = args.y.sizes[2];
  const int64_t m = args.x.sizes[1];
  const int64_t* index = args.index.as<int64_t>();
  CheckRange(index, outer * n * inner, m, "gather");
  DispatchSize(args.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = args.x.as<T>();
    T* y = args.y.as<T>();
    AsCpu(device).ParallelFor(outer * n * inner, kGrain, [&](int64_t begin, int64_t end) {
      int64_t o = begin / (n * inner), i = begin % inner;
      for (int64_t t = begin; t < end; ++t) {
        y[t] = x[(o * m + index[t]) * inner + i];
        if (++i < inner) continue;
        i = 0;
        o = (t + 1) / (n * inner);
      }
    });
  });
}

void ScatterAddCpu(Device& device, const ScatterAddArgs& args) {
  const int64_t outer = args.index.sizes[0], n = args.index.sizes[1], inner = args.index.sizes[2];
  const int64_t m = args.y.sizes[1];
  const int64_t* index = args.index.as<int64_t>();
  CheckRange(index, outer * n * inner, m, "scatter_add");
  DispatchFloating(args.src.dtype, "scatter_add", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    CHECK(args.y.dtype == DTypeOf<A>::value) << "[scatter_add]";
    const T* src = args.src.as<T>();
    A* y = args.y.as<A>();
    const int64_t blocks = (inner + kColumnBlock - 1) / kColumnBlock;
    const int64_t tile = std::max<int64_t>(1, n * std::min(inner, kColumnBlock));
    AsCpu(device).ParallelFor(
        outer * blocks, std::max<int64_t>(1, kGrain / tile), [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) {
            const int64_t o = t / blocks, i0 = t % blocks * kColumnBlock;
            const int64_t i1 = std::min(inner, i0 + kColumnBlock);
            for (int64_t k = 0; k < n; ++k) {
              const int64_t row = (o * n + k) * inner;
              for (int64_t i = i0; i < i1; ++i) {
                y[(o * m + index[row + i]) * inner + i] += Load(src + row + i);
              }
            }
          }
        });
  });
}

}  // namespace trireme
