// The kernel table of the CUDA device.
#pragma once

#include "core/device/kernel.h"

namespace trireme {

const KernelTable& CudaKernels();

}  // namespace trireme
