// A parameter: what was declared of it, and the stores that hold it.
//
//   working copy   compute dtype, a leaf; the only one that ops see
//   owned slice    the master in the accumulation type; what optimizers, exchanges and checkpoints see
//   gradient       the accumulation type; GradientBuffers (gradient_buffers.h)
//
// When the compute type is the accumulation type and the rank owns the whole, working copy and owned
// slice share one storage.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"
#include "core/tensor/box.h"
#include "core/tensor/tensor.h"

namespace trireme {

// How a parameter starts. Element i of the whole is drawn by (seed, path, i), so any part of it starts
// the same on any layout.
struct Init {
  enum class Kind { kConstant, kNormal };
  Kind kind = Kind::kConstant;
  double value = 0;  // The constant, or the standard deviation around zero.

  static Init Constant(double value) { return {Kind::kConstant, value}; }
  static Init Normal(double stddev) { return {Kind::kNormal, stddev}; }
};

struct ParamSpec {
  std::string path;  // "layers.3.mixer.wq". Never changes.
  Shape global;
  Box local;  // This rank's part of it.
  Init init;
  int unit = 0;       // The first unit of the model that uses it.
  bool decay = true;  // Whether weight decay applies by default.
};

struct Parameter {
  ParamSpec spec;
  Tensor working;  // Undefined until materialized.
  Tensor owned;

  // Rounds the owned slice into the working copy; nothing to do when they share storage.
  void RefreshWorking() const;
};

// The parameters of a model, in order of declaration.
class ParameterSet {
 public:
  ParameterSet() = default;
  ParameterSet(const ParameterSet&) = delete;
  ParameterSet& operator=(const ParameterSet&) = delete;

  // Nothing is allocated. CHECKs that the path is new. The pointer stays valid.
  Parameter* Declare(ParamSpec spec);

  // Allocates every parameter and draws its initial values.
  Status Materialize(Device& device, DType compute_dtype, uint64_t seed);

  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }
  Parameter* Find(absl::string_view path) const;  // nullptr when there is none.
  int64_t num_elements() const;                   // Of the whole parameters.

 private:
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::unordered_map<std::string, Parameter*> by_path_;
};

}  // namespace trireme
