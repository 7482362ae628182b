// Softmax, LogSoftmax and CrossEntropy on the CPU.
#include "core/ops/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

#include "core/base/log.h"
#include "core/base/status.h"
#include "core/batch.h"
#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/vector_math.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

int64_t RowGrain(int64_t c) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, c)); }

template <typename T>
AccOf<T> MaxRow(const T* x, int64_t n) {
  using A = AccOf<T>;
  return ReduceRow<A>(
      n, -std::numeric_limits<A>::infinity(), [x](int64_t i) { return Load(x + i); },
      [](A a, A b) { return a > b ? a : b; });
}

// sum_i e^(x[i] - max)
template <typename T>
AccOf<T> SumExp(const T* x, int64_t n, AccOf<T> max) {
  return SumRow<AccOf<T>>(n, [x, max](int64_t i) { return Exp(Load(x + i) - max); });
}

}  // namespace

void SoftmaxCpu(Device& device, const SoftmaxArgs& args) {
  const int64_t n = args.x.sizes[0], c = args.x.sizes[1];
  DispatchFloating(args.x.dtype, "softmax", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    AsCpu(device).ParallelFor(n, RowGrain(c), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* x = args.x.as<T>() + r * c;
        T* y = args.y.as<T>() + r * c;
        const A max = MaxRow(x, c), sum = SumExp(x, c, max);
        if (args.log) {
          const A log_sum = std::log(sum);
          SimdLoop(c, [=](int64_t i) { Store(y + i, Load(x + i) - max - log_sum); });
        } else {
          const A scale = 1 / sum;
          SimdLoop(c, [=](int64_t i) { Store(y + i, Exp(Load(x + i) - max) * scale); });
        }
      }
    });
  });
}

void SoftmaxBackwardCpu(Device& device, const SoftmaxBackwardArgs& args) {
  const int64_t n = args.y.sizes[0], c = args.y.sizes[1];
  DispatchFloating(args.y.dtype, "softmax", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    AsCpu(device).ParallelFor(n, RowGrain(c), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* y = args.y.as<T>() + r * c;
        const T* dy = args.dy.as<T>() + r * c;
        T* dx = args.dx.as<T>() + r * c;
        if (args.log) {
          const A sum = SumRow<A>(c, [=](int64_t i) { return Load(dy + i); });
          SimdLoop(c, [=](int64_t i) { Store(dx + i, Load(dy + i) - Exp(Load(y + i)) * sum); });
        } else {
          const A sum = SumRow<A>(c, [=](int64_t i) { return Load(dy + i) * Load(y + i); });
          SimdLoop(c, [=](int64_t i) { Store(dx + i, Load(y + i) * (Load(dy + i) - sum)); });
        }
      }
    });
  });
}

void CrossEntropyCpu(Device& device, const CrossEntropyArgs& args) {
  const int64_t n = args.logits.sizes[0], c = args.logits.sizes[1];
  const int32_t* labels = args.labels.as<int32_t>();
  for (int64_t i = 0; i < n; ++i) {
    if (labels[i] == kIgnoredLabel || (labels[i] >= 0 && labels[i] < args.num_classes)) continue;
    throw Failure(
        absl::OutOfRangeError(absl::StrCat("label ", labels[i], " (token ", i, ") is not in [0, ",
                                           args.num_classes, ") [cross_entropy]")));
  }
  DispatchFloating(args.logits.dtype, "cross_entropy", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    AsCpu(device).ParallelFor(n, RowGrain(c), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* logits = args.logits.as<T>() + r * c;
        A& loss = args.losses.as<A>()[r];
        A* norm = args.norms.as<A>() + 2 * r;
        if (labels[r] == kIgnoredLabel) {
          loss = norm[0] = norm[1] = 0;
          continue;
        }
        norm[0] = MaxRow(logits, c);
        norm[1] = std::log(SumExp(logits, c, norm[0]));
        if (c == args.num_classes) {
          loss = norm[1] - (Load(logits + labels[r]) - norm[0]);
        } else {
          const int64_t label = labels[r] - args.first;
          loss = label >= 0 && label < c ? Load(logits + label) : A(0);
        }
      }
    });
  });
}

void CrossEntropyBackwardCpu(Device& device, const CrossEntropyBackwardArgs& args) {
  const int64_t n = args.logits.sizes[0], c = args.logits.sizes[1];
  const int32_t* labels = args.labels.as<int32_t>();
  DispatchFloating(args.logits.dtype, "cross_entropy", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    const A seed = args.seed.defined() ? *args.seed.as<A>() : A(1);
    const auto run = [&](auto* dlogits) {
      AsCpu(device).ParallelFor(n, RowGrain(c), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const T* x = args.logits.as<T>() + r * c;
          auto* dx = dlogits + r * c;
          if (labels[r] == kIgnoredLabel) {
            for (int64_t i = 0; i < c; ++i) Store(dx + i, A(0));
            continue;
          }
          const A max = args.norms.as<A>()[2 * r], log_sum = args.norms.as<A>()[2 * r + 1];
          const int64_t label = labels[r] - args.first;
          const bool here = label >= 0 && label < c;
          const A at_label = here ? seed * (Exp(Load(x + label) - max - log_sum) - 1) : A(0);
          const A scale = seed * Exp(-log_sum);
          SimdLoop(c, [=](int64_t i) { Store(dx + i, scale * Exp(Load(x + i) - max)); });
          if (here) Store(dx + label, at_label);
        }
      });
    };
    if (args.dlogits.dtype == DTypeOf<T>::value) return run(args.dlogits.as<T>());
    CHECK(args.dlogits.dtype == DType::kBF16 && DTypeOf<T>::value == DType::kF32)
        << DTypeName(args.dlogits.dtype) << " [cross_entropy]";
    if constexpr (std::is_same_v<T, float>) run(args.dlogits.as<bfloat16>());
  });
}

}  // namespace trireme
