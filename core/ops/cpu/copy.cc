// Copy, Fill, Accumulate on the CPU: any strides, any types.
#include <algorithm>
#include <cstring>

#include "core/device/cpu/cpu_device.h"
#include "core/tensor/dispatch.h"
#include "core/tensor/kernels.h"

namespace trireme {
namespace {

constexpr int64_t kGrain = 16384;  // Elements a tile.

// double for the types that f32 cannot carry exactly, f32 for the rest.
template <typename T>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};
template <>
struct Wide<int64_t> {
  using type = int64_t;
};
template <>
struct Wide<int32_t> {
  using type = int64_t;
};

template <typename D, typename S>
D Convert(S value) {
  return static_cast<D>(static_cast<typename Wide<D>::type>(static_cast<typename Wide<S>::type>(value)));
}

// Calls row(dst_offset, src_offset, count, dst_stride, src_stride) for each innermost row.
template <typename Row>
void ForEachRow(CpuDevice& cpu, const View& dst, const View& src, Row row) {
  const int inner = dst.rank - 1;
  const int64_t columns = dst.rank == 0 ? 1 : dst.sizes[inner];
  if (dst.numel() == 0) return;
  const int64_t rows = dst.numel() / columns;
  const int64_t dst_stride = dst.rank == 0 ? 1 : dst.strides[inner];
  const int64_t src_stride = src.rank == 0 ? 1 : src.strides[inner];
  cpu.ParallelFor(rows, std::max<int64_t>(1, kGrain / columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t rest = r, dst_offset = 0, src_offset = 0;
      for (int i = inner - 1; i >= 0; --i) {
        const int64_t index = rest % dst.sizes[i];
        rest /= dst.sizes[i];
        dst_offset += index * dst.strides[i];
        src_offset += index * src.strides[i];
      }
      row(dst_offset, src_offset, columns, dst_stride, src_stride);
    }
  });
}

// Dense views of equal shape as one row each, so that tiles do not depend on the shape's factors.
View Flatten(const View& view) {
  View flat = view;
  flat.rank = 2;
  const int64_t n = view.numel();
  flat.sizes[1] = std::min<int64_t>(n, kGrain);
  flat.sizes[0] = flat.sizes[1] == 0 ? 0 : n / flat.sizes[1];
  flat.strides[1] = 1;
  flat.strides[0] = flat.sizes[1];
  return flat;
}

template <typename Fn>
void Elementwise(Device& device, const View& dst, const View& src, Fn fn) {
  CpuDevice& cpu = AsCpu(device);
  if (!dst.contiguous() || !src.contiguous() || dst.numel() < kGrain) {
    return ForEachRow(cpu, dst, src, fn);
  }
  ForEachRow(cpu, Flatten(dst), Flatten(src), fn);
  const int64_t done = dst.numel() / kGrain * kGrain;
  if (done < dst.numel()) fn(done, done, dst.numel() - done, 1, 1);
}

}  // namespace

void CopyCpu(Device& device, const CopyArgs& args) {
  DispatchAll(args.dst.dtype, [&](auto dst_tag) {
    using D = typename decltype(dst_tag)::type;
    DispatchAll(args.src.dtype, [&](auto src_tag) {
      using S = typename decltype(src_tag)::type;
      D* dst = args.dst.as<D>();
      const S* src = args.src.as<S>();
      Elementwise(device, args.dst, args.src,
                  [=](int64_t d, int64_t s, int64_t n, int64_t ds, int64_t ss) {
                    if constexpr (std::is_same_v<D, S>) {
                      if (ds == 1 && ss == 1) {
                        std::memcpy(dst + d, src + s, n * sizeof(D));
                        return;
                      }
                    }
                    for (int64_t i = 0; i < n; ++i) dst[d + i * ds] = Convert<D>(src[s + i * ss]);
                  });
    });
  });
}

void FillCpu(Device& device, const FillArgs& args) {
  DispatchAll(args.dst.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* dst = args.dst.as<T>();
    const T value = Convert<T>(args.value);
    Elementwise(device, args.dst, args.dst, [=](int64_t d, int64_t, int64_t n, int64_t ds, int64_t) {
      for (int64_t i = 0; i < n; ++i) dst[d + i * ds] = value;
    });
  });
}

void AccumulateCpu(Device& device, const AccumulateArgs& args) {
  DispatchFloating(args.dst.dtype, "accumulate", [&](auto dst_tag) {
    using D = typename decltype(dst_tag)::type;
    DispatchFloating(args.src.dtype, "accumulate", [&](auto src_tag) {
      using S = typename decltype(src_tag)::type;
      using A = AccOf<D>;
      D* dst = args.dst.as<D>();
      const S* src = args.src.as<S>();
      const A alpha = static_cast<A>(args.alpha);
      Elementwise(device, args.dst, args.src,
                  [=](int64_t d, int64_t s, int64_t n, int64_t ds, int64_t ss) {
                    for (int64_t i = 0; i < n; ++i) {
                      D& element = dst[d + i * ds];
                      element = D(A(element) + alpha * A(AccOf<S>(src[s + i * ss])));
                    }
                  });
    });
  });
}

}  // namespace trireme
