// What can be trained, by name.
#pragma once

#include <memory>

#include "core/base/component.h"
#include "core/base/registry.h"
#include "core/module/model.h"
#include "parallel/layers/tensor_axis.h"
#include "parallel/sequence/sequence_axis.h"

namespace trireme {

// What the data decides of a model. Zero where it does not apply.
struct DataShape {
  int64_t vocab_size = 0;    // Text: tokens.
  int64_t num_features = 0;  // Images: values of a sample.
  int64_t num_classes = 0;
};

// How this rank's part of a model is cut out of the whole. Alone: all of it.
struct ModelLayout {
  TensorAxis tensor;
  std::shared_ptr<const SequenceAxis> sequence = std::make_shared<SequenceAxis>();
};

// Declares the model; nothing is allocated. INVALID_ARGUMENT on unknown keys and sizes that do not
// fit.
using ModelFactory = StatusOr<std::unique_ptr<Model>> (*)(const Params& params,
                                                          const ComponentConfig& config,
                                                          const DataShape& data,
                                                          const ModelLayout& layout);

// The registry, made from models.def.
absl::Span<const Entry<ModelFactory>> Models();
StatusOr<std::unique_ptr<Model>> MakeModel(const ComponentConfig& config, const DataShape& data,
                                           const ModelLayout& layout = {});

}  // namespace trireme
