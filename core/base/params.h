// Parameters of a component, declared as a constexpr table and checked strictly. `trireme list`,
// the checks and the generated documentation read the same table.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "core/base/status.h"

namespace trireme {

enum class ParamType { kInt, kFloat, kBool, kString };

inline constexpr double kUnbounded = std::numeric_limits<double>::infinity();

struct ParamInfo {
  const char* key;
  ParamType type;
  const char* default_value;  // nullptr: required.
  const char* doc;
  double min = -kUnbounded;  // Inclusive, for numbers.
  double max = kUnbounded;
  const char* choices = nullptr;  // "a|b|c", for strings.
};

const char* ParamTypeName(ParamType type);

// "[0, 1]", ">= 1", "a|b|c" or "" when anything of the type is allowed.
std::string ParamRange(const ParamInfo& info);

using ParamMap = std::map<std::string, std::string>;

// The checked values of one component. Getters CHECK that the key is in the table with that type.
class Params {
 public:
  // INVALID_ARGUMENT on an unknown key (with the nearest known one), a missing required key, a
  // value of the wrong type or out of range. `component` opens the message.
  static StatusOr<Params> Create(absl::string_view component, absl::Span<const ParamInfo> table,
                                 const ParamMap& given);

  int64_t Int(absl::string_view key) const;
  double Float(absl::string_view key) const;
  bool Bool(absl::string_view key) const;
  const std::string& String(absl::string_view key) const;

  // Every key with its text, defaults included.
  const ParamMap& values() const { return values_; }

 private:
  const std::string& Value(absl::string_view key, ParamType type) const;

  absl::Span<const ParamInfo> table_;
  ParamMap values_;
};

// Whole-string parses; false on trailing text, overflow, NaN.
bool ParseInt(absl::string_view text, int64_t* value);
bool ParseFloat(absl::string_view text, double* value);
bool ParseBool(absl::string_view text, bool* value);

// The candidate with the smallest edit distance to `name`, or "" when none is close.
std::string NearestName(absl::string_view name, absl::Span<const std::string> candidates);

// "unknown X 'nmae'; did you mean 'name'?" or, when nothing is close, the list of known names.
std::string UnknownNameMessage(absl::string_view what, absl::string_view name,
                               absl::Span<const std::string> candidates);

}  // namespace trireme
