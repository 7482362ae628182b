#include "core/module/scope.h"

#include "absl/strings/str_cat.h"

#include "core/base/log.h"

namespace trireme {

Scope Scope::Child(absl::string_view name) const {
  Scope child = *this;
  child.path_ = path_.empty() ? std::string(name) : absl::StrCat(path_, ".", name);
  return child;
}

Scope Scope::InUnit(int unit) const {
  Scope scope = *this;
  scope.unit_ = unit;
  return scope;
}

Parameter* Scope::Declare(absl::string_view name, const Shape& shape, Init init, bool decay) const {
  ParamSpec spec;
  spec.global = shape;
  spec.local = WholeBox(shape);
  spec.init = init;
  spec.decay = decay;
  return Declare(name, std::move(spec));
}

Parameter* Scope::Declare(absl::string_view name, ParamSpec spec) const {
  spec.path = Child(name).path_;
  spec.units = {unit_};
  return parameters_->Declare(std::move(spec));
}

Parameter* Scope::Share(Parameter* parameter) const {
  CHECK_GT(unit_, parameter->spec.units.back()) << parameter->spec.path;
  parameter->spec.units.push_back(unit_);
  parameter->units.push_back(unit_);
  return parameter;
}

}  // namespace trireme
