// SwiGlu and its backward.
#include "core/ops/cuda/activation.cuh"
#include "core/ops/cuda/strided_loop.cuh"
#include "core/ops/elementwise.h"
#include "core/tensor/dispatch.h"

namespace trireme {
namespace {

template <typename T>
struct SwiGluValue {
  static constexpr bool kReadsOutputs = false;
  __device__ void operator()(T& y, T gate, T up) const {
    using A = AccOf<T>;
    const A g = A(gate);
    y = T(g * Sigmoid(g) * A(up));
  }
};

template <typename T>
struct SwiGluSlopes {
  static constexpr bool kReadsOutputs = false;
  __device__ void operator()(T& dgate, T& dup, T dy, T gate, T up) const {
    using A = AccOf<T>;
    const A g = A(gate), d = A(dy), s = Sigmoid(g);
    dup = T(d * g * s);
    dgate = T(d * A(up) * s * (1 + g * (1 - s)));
  }
};

}  // namespace

void SwiGluCuda(Device& device, const SwiGluArgs& args) {
  DispatchFloating(args.y.dtype, "swiglu", [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise(device, SwiGluValue<T>(), Out<T>(args.y), In<T>(args.gate), In<T>(args.up));
  });
}

void SwiGluBackwardCuda(Device& device, const SwiGluBackwardArgs& args) {
  DispatchFloating(args.dy.dtype, "swiglu", [&](auto tag) {
    using T = typename decltype(tag)::type;
    Elementwise(device, SwiGluSlopes<T>(), Out<T>(args.dgate), Out<T>(args.dup), In<T>(args.dy),
                In<T>(args.gate), In<T>(args.up));
  });
}

}  // namespace trireme
