#include "core/module/scope.h"

#include "absl/strings/str_cat.h"

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
  return parameters_->Declare(
      ParamSpec{Child(name).path_, shape, WholeBox(shape), init, unit_, decay});
}

}  // namespace trireme
