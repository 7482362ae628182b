// What the functions of the CUDA runtime's stand-in share.
#pragma once

#include <cuda_runtime_api.h>

#include "tests/cuda_emulation/machine.h"

namespace trireme::emulation {

// Also what cudaGetLastError answers to this thread.
cudaError_t Return(cudaError_t code);

// Reports what a check of memory found, if it is anything; "cudaMemcpyAsync reads byte 4 of ...".
cudaError_t Verdict(const char* call, const std::string& wrong);

}  // namespace trireme::emulation
