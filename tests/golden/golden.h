// Reads the numbers that the scripts beside this file wrote with PyTorch.
#pragma once

#include <string>
#include <vector>

#include "core/io/safetensors.h"

namespace trireme::testing {

class Golden {
 public:
  // tests/golden/<name>.safetensors. CHECKs that it can be read.
  Golden(const std::string& name, Device& device);

  bool Has(const std::string& name) const { return reader_.Find(name) != nullptr; }
  // CHECKs that it is there. Integers keep their type; floats come as `dtype`.
  Tensor Read(const std::string& name, DType dtype = DType::kF64) const;
  // The names that begin with `prefix`, without it.
  std::vector<std::string> Names(const std::string& prefix) const;

 private:
  Device& device_;
  SafetensorsReader reader_;
};

// The largest |actual - expected| over the largest |expected|: the error against the scale of the
// whole.
double RelativeError(const Tensor& actual, const Tensor& expected);

}  // namespace trireme::testing
