// Patterns of names: "layers.*.mixer.wq".
#pragma once

#include "absl/strings/string_view.h"

namespace trireme {

// True when `text` matches `pattern`, in which '*' stands for any text.
bool MatchesPattern(absl::string_view pattern, absl::string_view text);

}  // namespace trireme
