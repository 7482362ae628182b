// A parameter: what was declared of it, and the stores that hold it.
//
//   working copy  compute dtype, a leaf; the only one that ops see
//   owned slice   the master in the accumulation type; for optimizers, exchanges, checkpoints
//   gradient      the accumulation type; GradientBuffers (gradient_buffers.h)
//
// The owned slice is a share of the rows of the working copy, all of them unless ranks that share
// the data share the ownership too (ZeRO). It is a view of the working copy when their types allow.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/philox.h"
#include "core/base/status.h"
#include "core/module/axis.h"
#include "core/tensor/box.h"
#include "core/tensor/tensor.h"

namespace trireme {

// How a parameter starts. Element i of the whole is drawn by (seed, path, i), so any part of it
// starts the same on any layout.
struct Init {
  enum class Kind { kConstant, kNormal, kFunction };
  Kind kind = Kind::kConstant;
  double value = 0;  // The constant, or the standard deviation around zero.
  std::function<double(RngKey key, int64_t i)> function = nullptr;

  static Init Constant(double value) { return {Kind::kConstant, value}; }
  static Init Normal(double stddev) { return {Kind::kNormal, stddev}; }
  // Evaluated on the host: for small parameters. `i` counts the elements of the whole, row by row.
  static Init Function(std::function<double(RngKey key, int64_t i)> function) {
    return {Kind::kFunction, 0, std::move(function)};
  }
};

// Which part of a parameter a rank has, and which reduction its gradient needs. Nothing else
// decides that.
struct ParamSpec {
  std::string path;  // "layers.3.mixer.wq". Never changes.
  Shape global;
  Box local;          // This rank's part of it.
  AxisSet split;      // Model axes that cut it,
  int split_dim = 0;  // along this dimension.
  // Model axes over which the gradients of the ranks are parts of one sum. (Over replica, shard and
  // sequence, which cut the data, they always are.)
  AxisSet partial_grad;
  // Neighbours along the tensor axis that have the same part of a parameter that it splits, for
  // key-value heads that are fewer than ranks. Their gradients are parts of one sum.
  int copies = 1;
  Init init;
  std::vector<int> units;   // The units of the model that use it, ascending.
  bool decay = true;        // Whether weight decay applies by default.
  bool is_product = false;  // A matrix [out, in] that rows are multiplied with: see lora.h.
  bool frozen = false;      // Never trained: no gradient, no optimizer state.
};

// INVALID_ARGUMENT when a spec contradicts itself.
Status CheckSpec(const ParamSpec& spec);

struct Parameter {
  // What is added to a matrix; nothing when `a` is nullptr.
  struct LowRank {
    const Parameter *a = nullptr, *b = nullptr;
    double scale = 0;
  };

  ParamSpec spec;
  LowRank lora;
  std::vector<int> units;  // Those of spec.units that run on this rank.
  Tensor working;          // Undefined until materialized.
  Tensor owned;
  Box owned_box;  // Of the whole.

  int unit() const { return units.front(); }
  // The rows of the working copy that the owned slice stands for.
  Tensor OwnedRows() const;
  // Rounds the owned slice into them; nothing to do when it is a view of them.
  void RefreshWorking() const;
};

// Of the ranks of a replica that have the same part of a parameter, whether this is the one that
// counts it (in norms) and writes it (to checkpoints): the first along the tensor axis, of the
// first stage.
bool IsCounted(const Parameter& parameter, int tensor_rank);

// Of the ranks that share ownership, which this is. `separate`: working copies have memory while
// they are used only, none to begin with, so the owned slice is never a view.
struct Ownership {
  int index = 0;
  int count = 1;
  bool separate = false;
};

// The parameters of a model, in order of declaration.
class ParameterSet {
 public:
  ParameterSet() = default;
  ParameterSet(const ParameterSet&) = delete;
  ParameterSet& operator=(const ParameterSet&) = delete;

  // Nothing is allocated. CHECKs that the path is new and the spec sound. The pointer stays valid.
  Parameter* Declare(ParamSpec spec);

  // Only parameters that one of these units uses are this rank's from here on.
  void KeepUnits(const std::function<bool(int unit)>& runs_here);

  // Allocates this rank's parameters and draws the initial values of the owned slices; and those of
  // the working copies, unless the ownership is shared: then their other rows wait to be gathered.
  Status Materialize(Device& device, DType compute_dtype, uint64_t seed,
                     const Ownership& ownership = {});

  // Of working copies, once materialized.
  DType compute_dtype() const { return compute_dtype_; }

  // This rank's.
  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }
  // Of the whole model, whichever ranks have them.
  Parameter* Find(absl::string_view path) const;  // nullptr when there is none.
  std::vector<std::string> Paths() const;
  int64_t num_elements() const;

 private:
  DType compute_dtype_ = DType::kF32;
  std::vector<std::unique_ptr<Parameter>> parameters_, elsewhere_;
  std::unordered_map<std::string, Parameter*> by_path_;
};

}  // namespace trireme
