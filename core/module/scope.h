// Scope: where a layer stands when it declares its parameters. Constructors of layers take one;
// nothing is allocated until the whole model was declared and checked.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

#include "core/module/parameter.h"

namespace trireme {

class Scope {
 public:
  explicit Scope(ParameterSet& parameters) : parameters_(&parameters) {}

  // "layers.3" then "mixer": names join with dots.
  Scope Child(absl::string_view name) const;
  // Parameters declared below belong to `unit` of the model.
  Scope InUnit(int unit) const;

  // weights.Declare("wq", {512, 512}, Init::Normal(0.02)). Biases and gains pass decay = false.
  // Every rank has the whole, and its gradient.
  Parameter* Declare(absl::string_view name, const Shape& shape, Init init,
                     bool decay = true) const;
  // In full: path and units of `spec` are filled in here.
  Parameter* Declare(absl::string_view name, ParamSpec spec) const;
  // This unit uses a parameter of an earlier one as well (tied weights).
  Parameter* Share(Parameter* parameter) const;

  const std::string& path() const { return path_; }

 private:
  ParameterSet* parameters_;
  std::string path_;
  int unit_ = 0;
};

}  // namespace trireme
