#include "core/ops/optimizer_kernels.h"

#include <cmath>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/element.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int64_t kTile = 32768;  // Elements: states and gradient of a tile stay in the L2 cache.

// Calls fn(item, begin, end) over all items in tiles, in parallel.
template <typename Fn>
void ForEachTile(Device& device, const UpdateItem* items, int64_t num_items, Fn fn) {
  std::vector<std::pair<const UpdateItem*, int64_t>> tiles;
  for (int64_t i = 0; i < num_items; ++i) {
    for (int64_t begin = 0; begin < items[i].owned.numel(); begin += kTile) {
      tiles.push_back({&items[i], begin});
    }
  }
  AsCpu(device).ParallelFor(tiles.size(), 1, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      const auto& [item, begin] = tiles[t];
      fn(*item, begin, std::min(begin + kTile, item->owned.numel()));
    }
  });
}

void RefreshWorking(const UpdateItem& item, int64_t begin, int64_t end) {
  if (!item.working.defined()) return;
  DispatchFloating(item.working.dtype, "refresh", [&](auto tag) {
    using W = typename decltype(tag)::type;
    using T = AccOf<W>;
    W* working = item.working.as<W>();
    const T* owned = item.owned.as<T>();
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) working[i] = W(owned[i]);
  });
}

template <typename T>
void AdamW(const AdamWArgs& args, const UpdateItem& item, int64_t begin, int64_t end) {
  T* p = item.owned.as<T>();
  const T* grad = item.grad.as<T>();
  T* m = item.states[0].as<T>();
  T* v = item.states[1].as<T>();
  const double correction1 = 1 - std::pow(args.beta1, args.step);
  const double correction2 = 1 - std::pow(args.beta2, args.step);
  const T scale = args.grad_scale, beta1 = args.beta1, beta2 = args.beta2, epsilon = args.epsilon;
  // In f32, 1 - 0.999 would be off by 1e-5 of itself.
  const T fresh1 = 1 - args.beta1, fresh2 = 1 - args.beta2;
  const T step_size = item.learning_rate / correction1;
  const T inverse_sqrt2 = 1 / std::sqrt(correction2);
  const T keep = 1 - item.learning_rate * item.weight_decay;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const T g = scale * grad[i];
    m[i] = beta1 * m[i] + fresh1 * g;
    v[i] = beta2 * v[i] + fresh2 * g * g;
    p[i] = keep * p[i] - step_size * m[i] / (std::sqrt(v[i]) * inverse_sqrt2 + epsilon);
  }
}

template <typename T>
void Sgd(const SgdArgs& args, const UpdateItem& item, int64_t begin, int64_t end) {
  T* p = item.owned.as<T>();
  const T* grad = item.grad.as<T>();
  T* b = item.states[0].as<T>();
  const T scale = args.grad_scale, momentum = args.momentum, lr = item.learning_rate;
  const T decay = item.weight_decay;
  const T fresh = args.step == 1 ? T(1) : T(1 - args.dampening);
  const T kept = args.step == 1 ? T(0) : momentum;
  if (args.momentum == 0) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) p[i] -= lr * (scale * grad[i] + decay * p[i]);
    return;
  }
  const T look_ahead = args.nesterov ? T(1) : T(0);
  const T from_b = args.nesterov ? momentum : T(1);
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const T g = scale * grad[i] + decay * p[i];
    b[i] = kept * b[i] + fresh * g;
    p[i] -= lr * (look_ahead * g + from_b * b[i]);
  }
}

}  // namespace

void AdamWCpu(Device& device, const AdamWArgs& args) {
  ForEachTile(device, args.items, args.num_items,
              [&](const UpdateItem& item, int64_t begin, int64_t end) {
                if (item.owned.dtype == DType::kF64) {
                  AdamW<double>(args, item, begin, end);
                } else {
                  AdamW<float>(args, item, begin, end);
                }
                RefreshWorking(item, begin, end);
              });
}

void SgdCpu(Device& device, const SgdArgs& args) {
  ForEachTile(device, args.items, args.num_items,
              [&](const UpdateItem& item, int64_t begin, int64_t end) {
                if (item.owned.dtype == DType::kF64) {
                  Sgd<double>(args, item, begin, end);
                } else {
                  Sgd<float>(args, item, begin, end);
                }
                RefreshWorking(item, begin, end);
              });
}

void SumOfSquaresCpu(Device& device, const SumOfSquaresArgs& args) {
  const int64_t n = args.x.numel();
  std::vector<double> partial((n + kTile - 1) / kTile);
  DispatchFloating(args.x.dtype, "sum_of_squares", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = args.x.as<T>();
    AsCpu(device).ParallelFor(n, kTile, [&](int64_t begin, int64_t end) {
      partial[begin / kTile] = SumRow<double>(end - begin, [row = x + begin](int64_t i) {
        const double value = Load(row + i);
        return value * value;
      });
    });
  });
  double sum = 0;
  for (const double part : partial) sum += part;
  *args.sum.as<double>() = sum;
}

}  // namespace trireme
