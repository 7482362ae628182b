// The loop of every elementwise kernel: operands of equal sizes and any strides, 16 bytes at once
// where the innermost dimension is dense (or broadcast) and aligned in all of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/device/cuda/launch.cuh"
#include "core/ops/cuda/element.cuh"
#include "core/tensor/view.h"

namespace trireme {

template <typename T>
struct Operand {
  T* data;
  const View* view;
};
template <typename T>
Operand<const T> In(const View& view) {
  return {view.as<T>(), &view};
}
template <typename T>
Operand<T> Out(const View& view) {
  return {view.as<T>(), &view};
}

// The merged dimensions, innermost first; its steps are chunks of elements, counted by `steps`.
template <int kOperands>
struct LoopNest {
  int rank = 0;
  int64_t steps = 0;
  int64_t tail = 0;       // Elements behind the last chunk; only of one dimension.
  uint32_t repeated = 0;  // Bit k: operand k has one element for a whole chunk.
  int64_t size[6] = {};
  int64_t stride[6][kOperands] = {};  // In elements, from step to step.

  template <typename Index>
  __device__ void Offsets(Index step, int64_t (&offset)[kOperands]) const {
#pragma unroll
    for (int k = 0; k < kOperands; ++k) offset[k] = 0;
#pragma unroll
    for (int i = 0; i < 6; ++i) {
      if (i >= rank) break;
      const Index rest = i + 1 < rank ? step / static_cast<Index>(size[i]) : Index(0);
      const int64_t index = step - rest * static_cast<Index>(size[i]);
#pragma unroll
      for (int k = 0; k < kOperands; ++k) offset[k] += index * stride[i][k];
      step = rest;
    }
  }
};

template <int kOperands>
LoopNest<kOperands> MergeDimensions(const View* const (&views)[kOperands]) {
  const View& first = *views[0];
  LoopNest<kOperands> nest;
  nest.steps = first.numel();
  for (int i = first.rank - 1; i >= 0; --i) {
    if (first.sizes[i] == 1) continue;
    bool follows = nest.rank > 0;
    for (int k = 0; k < kOperands && follows; ++k) {
      follows = views[k]->strides[i] == nest.stride[nest.rank - 1][k] * nest.size[nest.rank - 1];
    }
    if (follows) {
      nest.size[nest.rank - 1] *= first.sizes[i];
      continue;
    }
    nest.size[nest.rank] = first.sizes[i];
    for (int k = 0; k < kOperands; ++k) nest.stride[nest.rank][k] = views[k]->strides[i];
    ++nest.rank;
  }
  return nest;
}

// Turns steps of elements into steps of chunks of kCount; false where that cannot be.
template <int kCount, int kOperands>
bool StepInChunks(LoopNest<kOperands>* nest, const bool (&aligned)[kOperands]) {
  if (nest->rank == 0 || nest->size[0] < kCount) return false;
  if (nest->rank > 1 && nest->size[0] % kCount != 0) return false;
  for (int k = 0; k < kOperands; ++k) {
    if (nest->stride[0][k] == 0) {
      nest->repeated |= 1u << k;
      continue;
    }
    if (nest->stride[0][k] != 1 || !aligned[k]) return false;
    for (int i = 1; i < nest->rank; ++i) {
      if (nest->stride[i][k] % kCount != 0) return false;
    }
  }
  nest->tail = nest->steps % kCount;
  nest->steps /= kCount;
  nest->size[0] /= kCount;
  for (int64_t& stride : nest->stride[0]) stride *= kCount;
  return true;
}

// An operand's chunk and where it lies; outputs are the operands that are not const.
template <typename T, int kCount>
struct Slot {
  T* place;
  Chunk<std::remove_const_t<T>, kCount> chunk;

  __device__ void Read(bool repeated) {
    if (!repeated) {
      chunk = chunk.From(place);
      return;
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) chunk.at[j] = *place;
  }
  __device__ void Write() {
    if constexpr (!std::is_const_v<T>) chunk.To(place);
  }
};

template <bool kReadsOutputs, int kCount, typename T>
__device__ inline Slot<T, kCount> ReadSlot(T* place, bool repeated) {
  Slot<T, kCount> slot;
  slot.place = place;
  if (std::is_const_v<T> || kReadsOutputs) slot.Read(repeated);
  return slot;
}

template <int kCount, typename Fn, typename... Slots>
__device__ inline void ApplyToSlots(const Fn& fn, Slots... slots) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) fn(slots.chunk.at[j]...);
  (slots.Write(), ...);
}

template <int kCount, typename Fn, size_t... kIndices, typename... Ts>
__device__ inline void ApplyAt(const Fn& fn, uint32_t repeated, const int64_t* offset,
                               std::index_sequence<kIndices...>, Ts*... data) {
  ApplyToSlots<kCount>(fn, ReadSlot<Fn::kReadsOutputs, kCount>(data + offset[kIndices],
                                                               (repeated >> kIndices & 1) != 0)...);
}

inline constexpr int kLoopThreads = 256;

struct NeverInChunks {};

template <int kCount, typename Fn, typename... Ts>
__global__ void __launch_bounds__(kLoopThreads)
    ElementwiseKernel(LoopNest<sizeof...(Ts)> nest, Fn fn, Ts*... data) {
  constexpr auto kIndices = std::index_sequence_for<Ts...>();
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t num_threads = int64_t{gridDim.x} * blockDim.x;
  int64_t offset[sizeof...(Ts)];
  for (int64_t step = first; step < nest.steps; step += num_threads) {
    if (nest.rank == 1) {
#pragma unroll
      for (size_t k = 0; k < sizeof...(Ts); ++k) offset[k] = step * nest.stride[0][k];
    } else if (nest.steps <= UINT32_MAX) {
      nest.Offsets(static_cast<uint32_t>(step), offset);
    } else {
      nest.Offsets(static_cast<uint64_t>(step), offset);
    }
    ApplyAt<kCount>(fn, nest.repeated, offset, kIndices, data...);
  }
  if (first < nest.tail) {
    for (size_t k = 0; k < sizeof...(Ts); ++k) {
      offset[k] = (nest.repeated >> k & 1) != 0 ? 0 : nest.steps * kCount + first;
    }
    ApplyAt<1>(fn, 0, offset, kIndices, data...);
  }
}

// fn(element, ...) for the elements of all operands, which have the sizes of the first. Fn says in
// kReadsOutputs whether outputs hold something that it needs. strided_fn computes the same and is
// used where chunks cannot be: families of functions have one for all, or there is twice as much to
// compile.
template <typename Fn, typename StridedFn, typename... Ts>
void Elementwise(Device& device, const Fn& fn, const StridedFn& strided_fn,
                 const Operand<Ts>&... operands) {
  const View* const views[] = {operands.view...};
  LoopNest<sizeof...(Ts)> nest = MergeDimensions(views);
  if (nest.steps == 0) return;
  if constexpr (!std::is_same_v<Fn, NeverInChunks>) {
    constexpr int kCount = 16 / std::max({sizeof(Ts)...});
    if (StepInChunks<kCount>(&nest, {InChunks<kCount>(operands.data)...})) {
      return LaunchKernel(device, ElementwiseKernel<kCount, Fn, Ts...>,
                          OverElements(nest.steps, kLoopThreads), nest, fn, operands.data...);
    }
  }
  LaunchKernel(device, ElementwiseKernel<1, StridedFn, Ts...>,
               OverElements(nest.steps, kLoopThreads), nest, strided_fn, operands.data...);
}

template <typename Fn, typename T, typename... Ts>
void Elementwise(Device& device, const Fn& fn, const Operand<T>& first,
                 const Operand<Ts>&... operands) {
  Elementwise(device, fn, fn, first, operands...);
}

}  // namespace trireme
