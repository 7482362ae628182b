#include "core/ops/cuda/cuda_kernels.h"

namespace trireme {

#define CUDA_KERNEL(Name) void Name##Cuda(Device&, const Name##Args&);
#include "core/ops/cuda/cuda_kernels.def"
#undef CUDA_KERNEL

const KernelTable& CudaKernels() {
  static constexpr KernelTable kTable = {
#define CUDA_KERNEL(Name) .Name = Name##Cuda,
#include "core/ops/cuda/cuda_kernels.def"
#undef CUDA_KERNEL
  };
  return kTable;
}

}  // namespace trireme
