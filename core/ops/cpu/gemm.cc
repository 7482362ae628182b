// GEMM on the CPU.
#include "core/device/cpu/cpu_device.h"
#include "core/ops/matmul.h"
#include "core/tensor/dispatch.h"

namespace trireme {

void GemmCpu(Device& device, const GemmArgs& args) {
  (void)AsCpu(device);
  const View &a = args.a, &b = args.b, &c = args.c;
  const int r = c.rank;
  const int64_t m = c.sizes[r - 2], n = c.sizes[r - 1], k = a.sizes[r - 1];
  int64_t batches = 1;
  for (int i = 0; i < r - 2; ++i) batches *= c.sizes[i];
  DispatchFloating(a.dtype, "gemm", [&](auto in_tag) {
    using T = typename decltype(in_tag)::type;
    DispatchFloating(c.dtype, "gemm", [&](auto out_tag) {
      using C = typename decltype(out_tag)::type;
      using A = AccOf<C>;
      for (int64_t batch = 0; batch < batches; ++batch) {
        int64_t rest = batch, ao = 0, bo = 0, co = 0;
        for (int i = r - 3; i >= 0; --i) {
          const int64_t index = rest % c.sizes[i];
          rest /= c.sizes[i];
          ao += index * a.strides[i];
          bo += index * b.strides[i];
          co += index * c.strides[i];
        }
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            A sum = 0;
            for (int64_t l = 0; l < k; ++l) {
              sum += A(AccOf<T>(a.as<T>()[ao + i * a.strides[r - 2] + l * a.strides[r - 1]])) *
                     A(AccOf<T>(b.as<T>()[bo + l * b.strides[r - 2] + j * b.strides[r - 1]]));
            }
            sum *= A(args.alpha);
            C& out = c.as<C>()[co + i * c.strides[r - 2] + j * c.strides[r - 1]];
            if (args.bias.defined()) sum += A(AccOf<T>(args.bias.as<T>()[j * args.bias.strides[0]]));
            out = C(args.beta == 0 ? sum : sum + A(args.beta) * A(AccOf<C>(out)));
          }
        }
      }
    });
  });
}

}  // namespace trireme
