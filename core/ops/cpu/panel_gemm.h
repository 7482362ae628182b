// Sums of bf16 products into f32 in own code, for the shapes where it beats the library: weight
// gradients.
#pragma once

#include "core/device/cpu/cpu_device.h"
#include "core/ops/cpu/gemm_library.h"

namespace trireme {

// Is this a product that PanelGemm computes faster than the library? Both sides in bf16, read
// across the summed dimension, which is long. (Measured on a Zen 4, 512 to 1408 rows and columns, k
// = 4096: 1.05 to 1.09 times oneDNN 2.6.3, which gets 0.93 to 1.0 times that on the other shapes
// of a step.)
bool PanelGemmPays(CpuDevice& device, const Product& product);

// c (f32) = a b + beta c with all threads of the device; a and b are bf16, alpha is 1. Every
// element is summed in an order that depends on k alone. Throws Failure when memory runs out.
void PanelGemm(CpuDevice& device, const Product& product);

}  // namespace trireme
