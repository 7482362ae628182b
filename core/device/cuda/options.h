// What a CUDA device is made from.
#pragma once

#include <cstdint>
#include <string>

namespace trireme {

struct CudaOptions {
  std::string library = "trireme_cuda";  // The plug-in that makes it.
  int ordinal =
      -1;  // Of the visible devices; -1: the only one, else local_rank modulo their number.
  int local_rank = 0;              // Of the ranks on this machine.
  int64_t memory_limit_bytes = 0;  // 0: what the device gives.
  bool allow_tf32 = false;         // Products of f32 on tensor cores, with 10 bits of mantissa.
};

}  // namespace trireme
