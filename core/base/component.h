// ComponentConfig: a registered component by name, its parameters, and the components it is made
// of.
#pragma once

#include <map>
#include <string>

#include "core/base/params.h"

namespace trireme {

struct ComponentConfig {
  std::string name;
  ParamMap params;
  std::map<std::string, ComponentConfig> parts;
};

}  // namespace trireme
