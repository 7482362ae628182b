// A token mixer: the part of a layer that lets tokens see each other. It owns its projections.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "core/base/params.h"
#include "core/base/registry.h"
#include "core/batch.h"
#include "core/module/scope.h"
#include "core/module/unit_traffic.h"
#include "core/tensor/tensor.h"
#include "models/attention/token_flow.h"
#include "parallel/layers/tensor_axis.h"
#include "parallel/sequence/sequence_axis.h"

namespace trireme {

struct MixerShape {
  int64_t width = 0;         // Of the hidden state.
  double init_stddev = 0;    // Of projections.
  double output_stddev = 0;  // Of the projection that writes the residual stream.
  double norm_epsilon = 0;
  TensorAxis tensor;
  std::shared_ptr<const SequenceAxis> sequence;
  int layer = 0;  // Of `num_layers`, for what differs with depth.
  int num_layers = 1;
};

class TokenMixer {
 public:
  virtual ~TokenMixer() = default;

  // From the residual stream, normed, to what is added to it: [n, width], or its rows on this rank.
  // Tokens see others of their own document only.
  Tensor operator()(const Tensor& x, const ForwardContext& context) const {
    return Mix(x, TokenFlow(*shape_.sequence, context.layout, context.training));
  }

  // The same, call by call: each segment of `layout` goes on where it ended in the call before with
  // this state, as one document; a new state begins them all. The sequence axis must have one rank.
  // Derivatives end at the call.
  Tensor Step(const Tensor& x, const TokenLayout& layout, MixerState* state) const {
    return Mix(x, TokenFlow(*shape_.sequence, layout, /*training=*/false, state));
  }

  // Of one forward pass over these segments; multiply-adds count two.
  virtual double ForwardFlops(const TokenLayout& layout) const = 0;

  // As Model::AddKernels. By default those of recurrences.
  virtual void AddKernels(std::set<std::string>* names) const;

  // What it says to other ranks, for each micro-batch.
  virtual void AddTraffic(UnitTraffic* traffic) const = 0;

 protected:
  explicit TokenMixer(const MixerShape& shape) : shape_(shape) {}

  virtual Tensor Mix(const Tensor& x, const TokenFlow& flow) const = 0;

  const MixerShape& shape() const { return shape_; }

 private:
  const MixerShape shape_;
};

// Declares the mixer's parameters under `scope`. INVALID_ARGUMENT when sizes do not fit.
using AttentionFactory = StatusOr<std::unique_ptr<TokenMixer>> (*)(const Params& params,
                                                                   const MixerShape& shape,
                                                                   const Scope& scope);

// The registry, made from attentions.def.
absl::Span<const Entry<AttentionFactory>> Attentions();

}  // namespace trireme
