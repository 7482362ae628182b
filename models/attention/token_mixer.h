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
#include "parallel/layers/tensor_axis.h"
#include "parallel/sequence/sequence_axis.h"

namespace trireme {

class TokenMixer {
 public:
  virtual ~TokenMixer() = default;

  // From the residual stream, normed, to what is added to it: [n, width], or its rows on this rank.
  // Tokens see others of their own document only.
  virtual Tensor operator()(const Tensor& x, const ForwardContext& context) const = 0;

  // Of one forward pass over these segments; multiply-adds count two.
  virtual double ForwardFlops(const TokenLayout& layout) const = 0;

  // As Model::AddKernels.
  virtual void AddKernels(std::set<std::string>* names) const { (void)names; }

  // What it says to other ranks, for each micro-batch.
  virtual void AddTraffic(UnitTraffic* traffic) const = 0;
};

struct MixerShape {
  int64_t width = 0;         // Of the hidden state.
  double init_stddev = 0;    // Of projections.
  double output_stddev = 0;  // Of the projection that writes the residual stream.
  double norm_epsilon = 0;
  TensorAxis tensor;
  std::shared_ptr<const SequenceAxis> sequence;
};

// Declares the mixer's parameters under `scope`. INVALID_ARGUMENT when sizes do not fit.
using MixerFactory = StatusOr<std::unique_ptr<TokenMixer>> (*)(const Params& params,
                                                               const MixerShape& shape,
                                                               const Scope& scope);

// The registry, made from attentions.def.
absl::Span<const Entry<MixerFactory>> Attentions();

}  // namespace trireme
