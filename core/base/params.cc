#include "core/base/params.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "core/base/log.h"

namespace trireme {
namespace {

Status CheckNumber(absl::string_view component, const ParamInfo& info, double value) {
  if (value >= info.min && value <= info.max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(component, ": ", info.key, " = ", value, " is outside ", ParamRange(info)));
}

Status CheckValue(absl::string_view component, const ParamInfo& info, const std::string& text) {
  const auto wrong_type = [&] {
    return absl::InvalidArgumentError(absl::StrCat(component, ": ", info.key, " = '", text,
                                                   "' is not a ", ParamTypeName(info.type)));
  };
  switch (info.type) {
    case ParamType::kInt: {
      int64_t value;
      if (!ParseInt(text, &value)) return wrong_type();
      return CheckNumber(component, info, static_cast<double>(value));
    }
    case ParamType::kFloat: {
      double value;
      if (!ParseFloat(text, &value)) return wrong_type();
      return CheckNumber(component, info, value);
    }
    case ParamType::kBool: {
      bool value;
      return ParseBool(text, &value) ? absl::OkStatus() : wrong_type();
    }
    case ParamType::kString: {
      if (info.choices == nullptr) return absl::OkStatus();
      const std::vector<std::string> choices = absl::StrSplit(info.choices, '|');
      if (std::find(choices.begin(), choices.end(), text) != choices.end()) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat(
          component, ": ", UnknownNameMessage(absl::StrCat("value of ", info.key), text, choices)));
    }
  }
  return absl::InternalError("unreachable");
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitution});
    }
  }
  return row[b.size()];
}

}  // namespace

const char* ParamTypeName(ParamType type) {
  switch (type) {
    case ParamType::kInt:
      return "integer";
    case ParamType::kFloat:
      return "number";
    case ParamType::kBool:
      return "boolean";
    case ParamType::kString:
      return "string";
  }
  return "?";
}

std::string ParamRange(const ParamInfo& info) {
  if (info.choices != nullptr) return info.choices;
  const bool has_min = std::isfinite(info.min), has_max = std::isfinite(info.max);
  if (has_min && has_max) return absl::StrCat("[", info.min, ", ", info.max, "]");
  if (has_min) return absl::StrCat(">= ", info.min);
  if (has_max) return absl::StrCat("<= ", info.max);
  return "";
}

StatusOr<Params> Params::Create(absl::string_view component, absl::Span<const ParamInfo> table,
                                const ParamMap& given) {
  Params params;
  params.table_ = table;
  std::vector<std::string> known;
  for (const ParamInfo& info : table) {
    known.push_back(info.key);
    if (info.default_value != nullptr) params.values_[info.key] = info.default_value;
  }
  for (const auto& [key, text] : given) {
    const auto info = std::find_if(table.begin(), table.end(),
                                   [&key = key](const ParamInfo& i) { return key == i.key; });
    if (info == table.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(component, ": ", UnknownNameMessage("parameter", key, known)));
    }
    RETURN_IF_ERROR(CheckValue(component, *info, text));
    params.values_[key] = text;
  }
  for (const ParamInfo& info : table) {
    if (params.values_.count(info.key) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(component, ": ", info.key, " is required (", info.doc, ")"));
    }
  }
  return params;
}

const std::string& Params::Value(absl::string_view key, ParamType type) const {
  for (const ParamInfo& info : table_) {
    if (key == info.key) {
      CHECK(info.type == type) << "parameter " << info.key << " is a " << ParamTypeName(info.type);
      return values_.at(info.key);
    }
  }
  LOG(FATAL) << "parameter '" << key << "' is not in the component's table";
  std::abort();
}

int64_t Params::Int(absl::string_view key) const {
  int64_t value = 0;
  CHECK(ParseInt(Value(key, ParamType::kInt), &value));
  return value;
}

double Params::Float(absl::string_view key) const {
  double value = 0;
  CHECK(ParseFloat(Value(key, ParamType::kFloat), &value));
  return value;
}

bool Params::Bool(absl::string_view key) const {
  bool value = false;
  CHECK(ParseBool(Value(key, ParamType::kBool), &value));
  return value;
}

const std::string& Params::String(absl::string_view key) const {
  return Value(key, ParamType::kString);
}

bool ParseInt(absl::string_view text, int64_t* value) { return absl::SimpleAtoi(text, value); }

bool ParseFloat(absl::string_view text, double* value) {
  return absl::SimpleAtod(text, value) && !std::isnan(*value);
}

bool ParseBool(absl::string_view text, bool* value) {
  if (text != "true" && text != "false") return false;
  *value = text == "true";
  return true;
}

std::string NearestName(absl::string_view name, absl::Span<const std::string> candidates) {
  size_t best = std::max<size_t>(2, name.size() / 3) + 1;
  std::string nearest;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string UnknownNameMessage(absl::string_view what, absl::string_view name,
                               absl::Span<const std::string> candidates) {
  const std::string nearest = NearestName(name, candidates);
  if (!nearest.empty()) {
    return absl::StrCat("unknown ", what, " '", name, "'; did you mean '", nearest, "'?");
  }
  if (candidates.empty()) return absl::StrCat("unknown ", what, " '", name, "'; none is known");
  return absl::StrCat("unknown ", what, " '", name, "'; known: ", absl::StrJoin(candidates, ", "));
}

}  // namespace trireme
