#include "launch/command_line.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include "core/base/params.h"

namespace trireme {
namespace {

constexpr Flag kHelp = {"help", nullptr, "print this"};

std::string Normalized(absl::string_view name) { return absl::StrReplaceAll(name, {{"-", "_"}}); }

const Flag* FindFlag(const CommandSpec& spec, const std::string& name) {
  for (const Flag& flag : spec.flags) {
    if (Normalized(flag.name) == name) return &flag;
  }
  return name == kHelp.name ? &kHelp : nullptr;
}

Status UnknownFlag(const CommandSpec& spec, absl::string_view name) {
  std::vector<std::string> known = {"--help"};
  for (const Flag& flag : spec.flags) known.push_back(absl::StrCat("--", flag.name));
  return absl::InvalidArgumentError(
      UnknownNameMessage(absl::StrCat("flag of ", spec.name), absl::StrCat("--", name), known));
}

}  // namespace

StatusOr<CommandLine> CommandLine::Parse(const CommandSpec& spec,
                                         absl::Span<const std::string> args) {
  CommandLine line;
  bool flags_ended = false;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (flags_ended || arg == "-" || !absl::StartsWith(arg, "-")) {
      line.positional_.push_back(arg);
      continue;
    }
    if (arg == "--") {
      flags_ended = true;
      continue;
    }
    const size_t equals = arg.find('=');
    const std::string written = arg.substr(0, equals);
    if (!absl::StartsWith(written, "--")) return UnknownFlag(spec, written.substr(1));
    const std::string name = Normalized(written.substr(2));
    const Flag* flag = FindFlag(spec, name);
    if (flag == nullptr) return UnknownFlag(spec, written.substr(2));
    std::string value;
    if (flag->value == nullptr) {
      if (equals != std::string::npos) {
        return absl::InvalidArgumentError(absl::StrCat(written, " takes no value"));
      }
    } else if (equals != std::string::npos) {
      value = arg.substr(equals + 1);
    } else if (++i < args.size()) {
      value = args[i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(written, " needs a value: ", flag->value));
    }
    std::vector<std::string>& values = line.values_[Normalized(flag->name)];
    if (!values.empty() && !flag->repeated && flag->value != nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(written, " is given twice"));
    }
    values.push_back(value);
  }
  if (line.Has(kHelp.name)) return line;
  const int count = static_cast<int>(line.positional_.size());
  if (count > spec.max_positional) {
    return absl::InvalidArgumentError(absl::StrCat(spec.name, ": unexpected argument '",
                                                   line.positional_[spec.max_positional], "'"));
  }
  if (count < spec.min_positional) {
    return absl::InvalidArgumentError(absl::StrCat(spec.name, " needs ", spec.positional));
  }
  return line;
}

std::string CommandLine::String(absl::string_view flag, absl::string_view otherwise) const {
  const auto values = values_.find(Normalized(flag));
  return values == values_.end() ? std::string(otherwise) : values->second.back();
}

std::vector<std::string> CommandLine::All(absl::string_view flag) const {
  const auto values = values_.find(Normalized(flag));
  return values == values_.end() ? std::vector<std::string>() : values->second;
}

StatusOr<int64_t> CommandLine::Int(absl::string_view flag, int64_t otherwise, int64_t min) const {
  if (!Has(Normalized(flag))) return otherwise;
  const std::string text = String(flag);
  int64_t value;
  if (ParseInt(text, &value) && value >= min) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " = '", text, "' is not an integer >= ", min));
}

std::string HelpText(const CommandSpec& spec) {
  std::string text = absl::StrCat(spec.doc, "\n\nusage: trireme ", spec.name,
                                  spec.positional[0] == '\0' ? "" : " ", spec.positional,
                                  spec.flags.empty() ? "" : " [flags]", "\n\n");
  const auto append = [&](const Flag& flag) {
    const std::string left = absl::StrCat("--", flag.name, flag.value == nullptr ? "" : " ",
                                          flag.value == nullptr ? "" : flag.value);
    absl::StrAppendFormat(&text, "  %-28s  %s%s\n", left, flag.doc,
                          flag.repeated ? " (repeatable)" : "");
  };
  for (const Flag& flag : spec.flags) append(flag);
  append(kHelp);
  absl::StrAppend(&text, "\nexample:\n  ", spec.example, "\n");
  return text;
}

}  // namespace trireme
