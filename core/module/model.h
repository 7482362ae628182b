// A model is a chain of units: unit 0 reads the batch, each next one the hidden state before it,
// the last returns the loss. A unit (a layer, mostly) is the grain of pipeline stages, gradient
// buckets, sharding and recomputation.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

#include "core/batch.h"
#include "core/module/parameter.h"
#include "core/module/unit_traffic.h"
#include "core/tensor/tensor.h"

namespace trireme {

// What a model keeps of the tokens of earlier calls of StepLogits.
class StepState {
 public:
  virtual ~StepState() = default;
};

class Model {
 public:
  virtual ~Model() = default;

  virtual int num_units() const = 0;

  // For messages.
  virtual std::string UnitName(int unit) const { return absl::StrCat("unit ", unit); }

  // hidden is undefined for unit 0. The last unit returns the sum of the losses of all counted
  // labels, a tensor of shape [] in the accumulation type.
  virtual Tensor RunUnit(int unit, const Tensor& hidden, const Batch& batch,
                         const ForwardContext& context) = 0;

  // What enters the last unit, to the scores of each class or token, [n, classes]. Undefined from
  // models that have none.
  virtual Tensor Logits(const Tensor& hidden, const Batch& batch, const ForwardContext& context) {
    (void)hidden, (void)batch, (void)context;
    return Tensor();
  }

  // The scores of the tokens of `batch`, [n, classes], as ForwardLogits gives them for whole
  // documents, call by call: each segment goes on where it ended in the call before with this
  // state, which nullptr begins. All units are this rank's, and the sequence axis has one rank.
  // Undefined from models that cannot go step by step.
  virtual Tensor StepLogits(const Batch& batch, std::unique_ptr<StepState>* state) {
    (void)batch, (void)state;
    return Tensor();
  }

  // The shape of what enters `unit` (> 0) of a micro-batch whose inputs have `n` rows: what
  // pipeline stages send each other. Empty from models that cannot be cut into stages.
  virtual Shape HiddenShape(int unit, int64_t n) const {
    (void)unit, (void)n;
    return Shape();
  }

  // What `unit` itself says to other ranks, for each micro-batch. Models that are not cut say
  // nothing.
  virtual void AddTraffic(int unit, UnitTraffic* traffic) const { (void)unit, (void)traffic; }

  // The kernels that it uses beside those of every model (MODEL_KERNEL in core/ops/kernels.def).
  virtual void AddKernels(std::set<std::string>* names) const { (void)names; }

  // Of the forward pass over these segments: multiply-adds count two, attention half its square. A
  // training step costs three times as much. 0: unknown.
  virtual double ForwardFlops(const TokenLayout& layout) const {
    (void)layout;
    return 0;
  }

  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }

 private:
  ParameterSet parameters_;
};

// Runs all units; with `recompute`, nothing inside them is kept for backward.
Tensor ForwardLoss(Model& model, const Batch& batch, const ForwardContext& context,
                   bool recompute = false);
// All but the last, and its scores.
Tensor ForwardLogits(Model& model, const Batch& batch, const ForwardContext& context);

}  // namespace trireme
