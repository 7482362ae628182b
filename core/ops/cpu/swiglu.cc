// SwiGlu and its backward on the CPU.
#include "core/ops/cpu/element.h"
#include "core/ops/cpu/strided_loop.h"
#include "core/ops/cpu/vector_math.h"
#include "core/ops/elementwise.h"
#include "core/tensor/dispatch.h"

namespace trireme {

void SwiGluCpu(Device& device, const SwiGluArgs& args) {
  DispatchFloating(args.y.dtype, "swiglu", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    ForEachRow(AsCpu(device), {&args.y, &args.gate, &args.up}, [&](const Row& row) {
      T* y = args.y.as<T>() + row.offset[0];
      const T* gate = args.gate.as<T>() + row.offset[1];
      const T* up = args.up.as<T>() + row.offset[2];
      const auto value = [](A g, A u) { return g * Sigmoid(g) * u; };
      if (row.dense) {
        SimdLoop(row.count, [=](int64_t i) { Store(y + i, value(Load(gate + i), Load(up + i))); });
      } else {
        const int64_t sy = row.stride[0], sg = row.stride[1], su = row.stride[2];
        for (int64_t i = 0; i < row.count; ++i) {
          Store(y + i * sy, value(Load(gate + i * sg), Load(up + i * su)));
        }
      }
    });
  });
}

void SwiGluBackwardCpu(Device& device, const SwiGluBackwardArgs& args) {
  DispatchFloating(args.dy.dtype, "swiglu", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using A = AccOf<T>;
    ForEachRow(AsCpu(device), {&args.dgate, &args.dup, &args.dy, &args.gate, &args.up},
               [&](const Row& row) {
                 T* dgate = args.dgate.as<T>() + row.offset[0];
                 T* dup = args.dup.as<T>() + row.offset[1];
                 const T* dy = args.dy.as<T>() + row.offset[2];
                 const T* gate = args.gate.as<T>() + row.offset[3];
                 const T* up = args.up.as<T>() + row.offset[4];
                 const auto step = [](T* dgate, T* dup, const T* dy, const T* gate, const T* up) {
                   const A g = Load(gate), d = Load(dy), s = Sigmoid(g);
                   Store(dup, d * g * s);
                   Store(dgate, d * Load(up) * s * (1 + g * (1 - s)));
                 };
                 if (row.dense) {
                   SimdLoop(row.count,
                            [=](int64_t i) { step(dgate + i, dup + i, dy + i, gate + i, up + i); });
                 } else {
                   const int64_t* s = row.stride;
                   for (int64_t i = 0; i < row.count; ++i) {
                     step(dgate + i * s[0], dup + i * s[1], dy + i * s[2], gate + i * s[3],
                          up + i * s[4]);
                   }
                 }
               });
  });
}

}  // namespace trireme
