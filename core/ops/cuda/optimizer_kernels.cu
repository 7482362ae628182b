// AdamW, Sgd, SumOfSquares. Updates are multi-tensor: a launch takes as many items as fit into the
// parameters of a kernel, so that nothing on the host or the device has to outlive the call.
#include <algorithm>
#include <cmath>

#include "core/ops/cuda/sums.cuh"
#include "core/ops/optimizer_kernels.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kTile = 8192;  // Elements of a block.
constexpr int kMaxItems = 36;    // Kernels have 4 KB of parameters.

template <typename A>
struct ItemOnDevice {
  A* owned;
  const A* grad;
  A* states[2];
  void* working;
  int64_t n;
  int64_t first_block;
  A rate, decay;      // As the rule wants them.
  bool bf16_working;  // Else working, if any, is of type A.
  bool in_chunks;
};

template <typename A>
struct ItemsOnDevice {
  int count = 0;
  int64_t num_blocks = 0;
  ItemOnDevice<A> item[kMaxItems];
};

// One step of a rule for an element: p and the states it has are changed.
template <typename A>
struct AdamWRule {
  static constexpr int kStates = 2;
  A scale, beta1, beta2, fresh1, fresh2, inverse_sqrt2, epsilon;

  // rate: the learning rate over the first correction; decay: what is kept of p.
  __device__ void Step(A rate, A decay, A grad, A& p, A& m, A& v) const {
    const A g = scale * grad;
    m = beta1 * m + fresh1 * g;
    v = beta2 * v + fresh2 * g * g;
    p = decay * p - rate * m / (sqrt(v) * inverse_sqrt2 + epsilon);
  }
};

template <typename A, int kNumStates>
struct SgdRule {
  static constexpr int kStates = kNumStates;
  A scale, kept, fresh, look_ahead, from_b;
  bool first_step;

  __device__ void Step(A rate, A decay, A grad, A& p, A& b, A&) const {
    const A g = scale * grad + decay * p;
    if constexpr (kStates == 0) {
      p -= rate * g;
    } else {
      b = (first_step ? A(0) : kept * b) + fresh * g;
      p -= rate * (look_ahead * g + from_b * b);
    }
  }
};

template <int kCount, typename A, typename Rule>
__device__ inline void UpdateChunk(const ItemOnDevice<A>& item, const Rule& rule, int64_t i) {
  using C = Chunk<A, kCount>;
  const C grad = C::From(item.grad + i);
  C p = C::From(item.owned + i);
  C states[2] = {};
#pragma unroll
  for (int s = 0; s < Rule::kStates; ++s) states[s] = C::From(item.states[s] + i);
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    rule.Step(item.rate, item.decay, grad.at[j], p.at[j], states[0].at[j], states[1].at[j]);
  }
  p.To(item.owned + i);
#pragma unroll
  for (int s = 0; s < Rule::kStates; ++s) states[s].To(item.states[s] + i);
  if (item.working == nullptr) return;
  if (item.bf16_working) {
    Chunk<bfloat16, kCount> rounded;
#pragma unroll
    for (int j = 0; j < kCount; ++j) rounded.at[j] = bfloat16(static_cast<float>(p.at[j]));
    rounded.To(static_cast<bfloat16*>(item.working) + i);
  } else {
    p.To(static_cast<A*>(item.working) + i);
  }
}

template <typename A, typename Rule>
__global__ void __launch_bounds__(kThreads) UpdateKernel(ItemsOnDevice<A> items, Rule rule) {
  int k = 0;
  while (k + 1 < items.count && blockIdx.x >= items.item[k + 1].first_block) ++k;
  const ItemOnDevice<A>& item = items.item[k];
  const int64_t begin = (blockIdx.x - item.first_block) * kTile;
  const int64_t end = min(item.n, begin + kTile);
  constexpr int kCount = kChunk<A>;
  int64_t i = begin + threadIdx.x;
  if (item.in_chunks) {
    const int64_t whole = begin + (end - begin) / kCount * kCount;
    for (int64_t c = begin + threadIdx.x * kCount; c < whole; c += kThreads * kCount) {
      UpdateChunk<kCount>(item, rule, c);
    }
    i = whole + threadIdx.x;
  }
  for (; i < end; i += kThreads) UpdateChunk<1>(item, rule, i);
}

template <typename A>
ItemOnDevice<A> OnDevice(const UpdateItem& item, int num_states) {
  constexpr int kCount = kChunk<A>;
  ItemOnDevice<A> result{};
  result.owned = item.owned.as<A>();
  result.grad = item.grad.as<A>();
  result.working = item.working.data;
  result.n = item.owned.numel();
  result.bf16_working = item.working.defined() && item.working.dtype == DType::kBF16;
  result.in_chunks = InChunks<kCount>(result.owned) && InChunks<kCount>(result.grad);
  for (int s = 0; s < num_states; ++s) {
    result.states[s] = item.states[s].as<A>();
    result.in_chunks = result.in_chunks && InChunks<kCount>(result.states[s]);
  }
  result.in_chunks =
      result.in_chunks && (result.bf16_working ? InChunks<kCount>(item.working.as<bfloat16>())
                                               : InChunks<kCount>(item.working.as<A>()));
  return result;
}

// Runs the rule over the items of type A; rates(item) gives {rate, decay}.
template <typename A, typename Rule, typename Rates>
void Update(Device& device, const UpdateItem* items, int64_t num_items, const Rule& rule,
            Rates rates) {
  static_assert(sizeof(ItemsOnDevice<A>) + sizeof(Rule) <= 4096);
  ItemsOnDevice<A> batch;
  const auto flush = [&] {
    if (batch.count == 0) return;
    LaunchKernel(device, UpdateKernel<A, Rule>, {dim3(batch.num_blocks), dim3(kThreads)}, batch,
                 rule);
    batch.count = 0;
    batch.num_blocks = 0;
  };
  for (int64_t k = 0; k < num_items; ++k) {
    if (items[k].owned.dtype != DTypeOf<A>::value || items[k].owned.numel() == 0) continue;
    ItemOnDevice<A>& item = batch.item[batch.count++];
    item = OnDevice<A>(items[k], Rule::kStates);
    const auto [rate, decay] = rates(items[k]);
    item.rate = static_cast<A>(rate);
    item.decay = static_cast<A>(decay);
    item.first_block = batch.num_blocks;
    batch.num_blocks += (item.n + kTile - 1) / kTile;
    if (batch.count == kMaxItems) flush();
  }
  flush();
}

struct Rates {
  double rate, decay;
};

template <typename A>
void AdamW(Device& device, const AdamWArgs& args) {
  const double correction1 = 1 - std::pow(args.beta1, args.step);
  const double correction2 = 1 - std::pow(args.beta2, args.step);
  // In f32, 1 - 0.999 would be off by 1e-5 of itself.
  const AdamWRule<A> rule{
      static_cast<A>(args.grad_scale), static_cast<A>(args.beta1),
      static_cast<A>(args.beta2),      static_cast<A>(1 - args.beta1),
      static_cast<A>(1 - args.beta2),  static_cast<A>(1 / std::sqrt(correction2)),
      static_cast<A>(args.epsilon)};
  Update<A>(device, args.items, args.num_items, rule, [&](const UpdateItem& item) {
    return Rates{item.learning_rate / correction1, 1 - item.learning_rate * item.weight_decay};
  });
}

template <typename A>
void Sgd(Device& device, const SgdArgs& args) {
  const bool first = args.step == 1;
  const auto rates = [](const UpdateItem& item) {
    return Rates{item.learning_rate, item.weight_decay};
  };
  const auto run = [&](auto rule) {
    rule.scale = static_cast<A>(args.grad_scale);
    rule.kept = static_cast<A>(args.momentum);
    rule.fresh = first ? A(1) : static_cast<A>(1 - args.dampening);
    rule.look_ahead = args.nesterov ? A(1) : A(0);
    rule.from_b = args.nesterov ? static_cast<A>(args.momentum) : A(1);
    rule.first_step = first;
    Update<A>(device, args.items, args.num_items, rule, rates);
  };
  args.momentum == 0 ? run(SgdRule<A, 0>()) : run(SgdRule<A, 1>());
}

struct Square {
  __device__ double operator()(double value) const { return value * value; }
};

}  // namespace

void AdamWCuda(Device& device, const AdamWArgs& args) {
  AdamW<float>(device, args);
  AdamW<double>(device, args);
}

void SgdCuda(Device& device, const SgdArgs& args) {
  Sgd<float>(device, args);
  Sgd<double>(device, args);
}

void SumOfSquaresCuda(Device& device, const SumOfSquaresArgs& args) {
  DispatchFloating(args.x.dtype, "sum_of_squares", [&](auto tag) {
    using T = typename decltype(tag)::type;
    RowSums(device, args.x.as<const T>(), 1, args.x.numel(), Square(),
            SumTarget<double, double>{args.sum.as<double>(), 1.0, false});
  });
}

}  // namespace trireme
