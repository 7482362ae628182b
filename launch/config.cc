#include "launch/config.h"

#include <google/protobuf/descriptor.h>

#include <filesystem>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/io/file.h"
#include "launch/config_fields.h"

namespace trireme {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Values without a default here are required (launch/config_check.cc says which).
constexpr absl::string_view kDefaults = R"(
  run_dir: "runs/run"
  seed: 1
  init_from: ""
  dtype: "f32"
  device: "auto"
  allow_tf32: false
  mesh {
    replica: 0 pipeline: 1 shard: 1 sequence: 1 tensor: 1
    zero_stage: 1 sharded_stream: false units_of_stage: ""
  }
  pipeline_schedule { name: "1f1b" }
  kv_exchange { name: "all_gather" }
  scan { name: "auto" }
  local_step { name: "plain" }
  data { sequence_length: 256 }
  batch { micro_batch_size: 0 }
  optimizer { name: "adamw" }
  lr_schedule { name: "constant" }
  clip_norm: 1
  evaluation { every: 0 num_batches: 0 }
  checkpoint { every: 0 keep: 2 }
  log_every: 0
  recompute: false
  bucket_bytes: 4194304
  threads: 0
  deadline_seconds: 300
)";

constexpr int64_t kMaxConfigBytes = int64_t{1} << 24;

// Where numbers come from; ConfigHash says the same in words.
constexpr absl::string_view kDeciding[] = {
    "seed",      "dtype",     "model",      "data",        "batch.global_batch_size",
    "groups",    "lora",      "optimizer",  "lr_schedule", "learning_rate",
    "clip_norm", "exchanges", "local_step", "init_from"};

void FillDefaults(RunConfig* config) {
  RunConfig completed;
  Origins unused;
  CHECK_OK(ReadTextProto("defaults", kDefaults, &completed, &unused));
  completed.MergeFrom(*config);
  *config = std::move(completed);
}

class Printer {
 public:
  Printer(const Origins& origins, bool with_origins)
      : origins_(origins), with_origins_(with_origins) {}

  std::string Print(const Message& message) {
    PrintFields(message, "");
    return std::move(text_);
  }

 private:
  void Line(absl::string_view line) {
    absl::StrAppend(&text_, std::string(2 * depth_, ' '), line, "\n");
  }

  void PrintValue(const Message& message, const FieldDescriptor* field, absl::string_view key,
                  const std::string& path) {
    std::string value = ScalarToText(message, field);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      value = absl::StrCat("\"", absl::Utf8SafeCEscape(value), "\"");
    }
    std::string line = absl::StrCat(key, ": ", value);
    if (with_origins_) {
      const auto origin = origins_.find(path);
      const int width = 44 - 2 * depth_;
      line = absl::StrFormat("%-*s  # %s", width, line,
                             origin == origins_.end() ? "default" : origin->second);
    }
    Line(line);
  }

  void PrintBlock(absl::string_view opening, const Message& message, const std::string& path) {
    Line(absl::StrCat(opening, " {"));
    ++depth_;
    PrintFields(message, path);
    --depth_;
    Line("}");
  }

  // Parameters as fields of their component; the key of a parameter that cannot be one is spelled
  // out.
  void PrintParams(const Message& message, const FieldDescriptor* params, const std::string& path) {
    const FieldDescriptor* value = params->message_type()->map_value();
    for (const auto& [key, entry] : SortedMap(params, message)) {
      const std::string entry_path = DottedPath(path, key);
      if (IsShorthandKey(message, key)) {
        PrintValue(*entry, value, key, entry_path);
      } else {
        Line(absl::StrCat("params {"));
        ++depth_;
        Line(absl::StrCat("key: \"", absl::Utf8SafeCEscape(key), "\""));
        PrintValue(*entry, value, "value", entry_path);
        --depth_;
        Line("}");
      }
    }
  }

  static bool IsShorthandKey(const Message& message, const std::string& key) {
    if (key.empty() || absl::ascii_isdigit(key[0])) return false;
    for (const char c : key) {
      if (!absl::ascii_isalnum(c) && c != '_') return false;
    }
    return message.GetDescriptor()->FindFieldByName(key) == nullptr;
  }

  void PrintMap(const Message& message, const FieldDescriptor* field, const std::string& path) {
    const FieldDescriptor* value = field->message_type()->map_value();
    const bool parts = field == PartsField(message);
    for (const auto& [key, entry] : SortedMap(field, message)) {
      const Message& component = entry->GetReflection()->GetMessage(*entry, value);
      const std::string entry_path =
          DottedPath(parts ? path : DottedPath(path, field->name()), key);
      if (parts && IsShorthandKey(message, key)) {
        PrintBlock(key, component, entry_path);
        continue;
      }
      Line(absl::StrCat(field->name(), " {"));
      ++depth_;
      Line(absl::StrCat("key: \"", absl::Utf8SafeCEscape(key), "\""));
      PrintBlock("value", component, entry_path);
      --depth_;
      Line("}");
    }
  }

  void PrintFields(const Message& message, const std::string& path) {
    const Reflection* reflection = message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      const std::string field_path = DottedPath(path, field->name());
      if (field == ParamsField(message)) {
        PrintParams(message, field, path);
      } else if (field->is_map()) {
        PrintMap(message, field, path);
      } else if (field->is_repeated()) {
        for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
          PrintBlock(field->name(), reflection->GetRepeatedMessage(message, field, i),
                     DottedPath(field_path, absl::StrCat(i)));
        }
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        PrintBlock(field->name(), reflection->GetMessage(message, field), field_path);
      } else {
        PrintValue(message, field, field->name(), field_path);
      }
    }
  }

  const Origins& origins_;
  const bool with_origins_;
  std::string text_;
  int depth_ = 0;
};

std::map<std::string, std::string> DecidingValues(const RunConfig& config) {
  std::map<std::string, std::string> values;
  for (auto& [path, value] : FlattenConfig(config)) {
    for (const absl::string_view deciding : kDeciding) {
      if (path == deciding || absl::StartsWith(path, absl::StrCat(deciding, "."))) {
        values[path] = value;
      }
    }
  }
  return values;
}

}  // namespace

StatusOr<LoadedConfig> ParseConfig(absl::string_view name, absl::string_view text,
                                   absl::Span<const std::string> assignments) {
  LoadedConfig loaded;
  RETURN_IF_ERROR(ReadTextProto(name, text, &loaded.config, &loaded.origins));
  for (const std::string& assignment : assignments) {
    RETURN_IF_ERROR(ApplyAssignment(assignment, &loaded.config, &loaded.origins));
  }
  FillDefaults(&loaded.config);
  return loaded;
}

StatusOr<LoadedConfig> LoadConfig(const std::string& path,
                                  absl::Span<const std::string> assignments) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(LoadedConfig loaded, ParseConfig(path, text, assignments));
  if (loaded.origins.count("run_dir") == 0) {
    const std::string stem = std::filesystem::path(path).stem().string();
    if (!stem.empty()) loaded.config.set_run_dir(absl::StrCat("runs/", stem));
  }
  return loaded;
}

ComponentConfig ToComponentConfig(const Component& component) {
  ComponentConfig config;
  config.name = component.name();
  config.params.insert(component.params().begin(), component.params().end());
  for (const auto& [key, part] : component.parts()) config.parts[key] = ToComponentConfig(part);
  return config;
}

std::string PrintConfig(const LoadedConfig& loaded, bool with_origins) {
  return Printer(loaded.origins, with_origins).Print(loaded.config);
}

std::string ConfigHash(const RunConfig& config) {
  uint64_t hash = 0;
  for (const auto& [path, value] : DecidingValues(config)) {
    hash = StableHash(value, StableHash(path, hash));
  }
  return absl::StrFormat("%016x", hash);
}

std::vector<std::string> ConfigDifferences(const RunConfig& there, const RunConfig& here) {
  const std::map<std::string, std::string> a = DecidingValues(there), b = DecidingValues(here);
  std::vector<std::string> differences;
  const auto text = [](const std::map<std::string, std::string>& values, const std::string& path) {
    const auto it = values.find(path);
    return it == values.end() ? std::string("absent") : it->second;
  };
  std::map<std::string, std::string> all = a;
  all.insert(b.begin(), b.end());
  for (const auto& [path, unused] : all) {
    if (text(a, path) == text(b, path)) continue;
    differences.push_back(
        absl::StrCat(path, " (", text(a, path), " there, ", text(b, path), " here)"));
  }
  return differences;
}

}  // namespace trireme
