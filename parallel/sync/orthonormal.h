// Orthonormal bases by block Gram-Schmidt: blocks of rows by products, rows inside a block one by
// one, everything twice where once has cancelled ("twice is enough": Parlett, "The symmetric
// eigenvalue problem", 6.9).
#pragma once

#include <cstdint>

#include "core/device/device.h"
#include "core/ops/cpu/gemm_library.h"

namespace trireme {

// The rows of basis[r, n], r <= n, become orthonormal; the first i of them span what the first i
// did. A row that depends on those before it, a zero row say, becomes the part orthogonal to them
// of the unit vector that they cover least: the result has r rows whatever comes in, the same on
// every rank for the same bits. Values that are not finite stay so. For float and double.
template <typename T>
void MakeOrthonormal(T* basis, int64_t r, int64_t n, GemmLibrary& library, Device& device);

}  // namespace trireme
