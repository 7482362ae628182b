#include "tests/golden/golden.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"

#include "core/base/log.h"

namespace trireme::testing {

Golden::Golden(const std::string& name, Device& device)
    : device_(device),
      reader_(ValueOrThrow(
          SafetensorsReader::Open(TRIREME_GOLDEN_FOLDER "/" + name + ".safetensors"))) {}

Tensor Golden::Read(const std::string& name, DType dtype) const {
  const SafetensorsEntry* entry = reader_.Find(name);
  CHECK(entry != nullptr) << reader_.path() << " has no " << name;
  const Tensor tensor = ValueOrThrow(reader_.Read(*entry, device_));
  const bool is_float = tensor.dtype() == DType::kF64 || tensor.dtype() == DType::kF32;
  return is_float && tensor.dtype() != dtype ? tensor.CopyTo(dtype) : tensor;
}

std::vector<std::string> Golden::Names(const std::string& prefix) const {
  std::vector<std::string> names;
  for (const SafetensorsEntry& entry : reader_.tensors()) {
    if (absl::StartsWith(entry.name, prefix)) names.push_back(entry.name.substr(prefix.size()));
  }
  return names;
}

double RelativeError(const Tensor& actual, const Tensor& expected) {
  CHECK(actual.shape() == expected.shape())
      << ToString(actual, 0) << " vs. " << ToString(expected, 0);
  const std::vector<double> a = actual.ToVector(), e = expected.ToVector();
  double error = 0, scale = 0;
  for (size_t i = 0; i < e.size(); ++i) {
    // A NaN must not compare as small.
    if (!std::isfinite(a[i])) return INFINITY;
    error = std::max(error, std::abs(a[i] - e[i]));
    scale = std::max(scale, std::abs(e[i]));
  }
  return scale > 0 ? error / scale : error;
}

}  // namespace trireme::testing
