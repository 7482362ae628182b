#include "launch/config_reader.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "core/base/log.h"
#include "core/base/params.h"
#include "launch/config_fields.h"

namespace trireme {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::io::Tokenizer;

constexpr int kMaxDepth = 32;

struct Place {
  int line = 0;
  int column = 0;
};

// Keeps the first error of the tokenizer: a string that does not end, a control character.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (!message_.empty()) return;
    place_ = {line + 1, column + 1};
    message_ = message;
  }
  bool found() const { return !message_.empty(); }
  Place place() { return place_; }
  const std::string& message() const { return message_; }

 private:
  Place place_;
  std::string message_;
};

bool IsMessage(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

std::string UnknownKey(const Message& message, const std::string& key) {
  return absl::StrCat(MessageName(message), ": ",
                      UnknownNameMessage("key", key, FieldNames(message)));
}

class Reader {
 public:
  Reader(absl::string_view name, absl::string_view text, Origins* origins)
      : name_(name),
        stream_(text.data(), static_cast<int>(text.size())),
        tokens_(&stream_, &error_),
        origins_(origins) {
    tokens_.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
    tokens_.set_require_space_after_number(false);
  }

  Status Read(Message* message) {
    RETURN_IF_ERROR(Next());
    return ReadFields("", /*closing=*/"", Place(), message);
  }

 private:
  Place place() { return {tokens_.current().line + 1, tokens_.current().column + 1}; }
  std::string At(Place place) const {
    return absl::StrCat(name_, ":", place.line, ":", place.column);
  }
  Status Error(Place place, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(At(place), ": ", what));
  }

  Status Next() {
    tokens_.Next();
    return error_.found() ? Error(error_.place(), error_.message()) : absl::OkStatus();
  }
  bool AtEnd() { return tokens_.current().type == Tokenizer::TYPE_END; }
  bool LooksAt(absl::string_view symbol) {
    return tokens_.current().type == Tokenizer::TYPE_SYMBOL && tokens_.current().text == symbol;
  }
  std::string Current() {
    return AtEnd() ? "the end" : absl::StrCat("'", tokens_.current().text, "'");
  }

  // Takes `symbol` if it is next.
  StatusOr<bool> Take(absl::string_view symbol) {
    if (!LooksAt(symbol)) return false;
    RETURN_IF_ERROR(Next());
    return true;
  }

  // Notes where `path` was given; an error when it was already.
  Status Claim(const std::string& path, Place place) {
    const auto [origin, inserted] = origins_->emplace(path, At(place));
    if (inserted) return absl::OkStatus();
    return Error(place,
                 absl::StrCat("duplicate key '", path, "', first given at ", origin->second));
  }

  Status ReadFields(const std::string& path, absl::string_view closing, Place opened,
                    Message* message) {
    if (++depth_ > kMaxDepth) return Error(opened, "messages are nested too deep");
    while (!(closing.empty() ? AtEnd() : LooksAt(closing))) {
      if (AtEnd()) return Error(opened, absl::StrCat("'{' without its '", closing, "'"));
      if (tokens_.current().type != Tokenizer::TYPE_IDENTIFIER) {
        return Error(place(), absl::StrCat("expected a key, got ", Current()));
      }
      const Place key_place = place();
      const std::string key = tokens_.current().text;
      RETURN_IF_ERROR(Next());
      RETURN_IF_ERROR(ReadField(path, key, key_place, message));
      ASSIGN_OR_RETURN(const bool comma, Take(","));
      if (!comma) RETURN_IF_ERROR(Take(";").status());
    }
    --depth_;
    return closing.empty() ? absl::OkStatus() : Next();
  }

  Status ReadField(const std::string& path, const std::string& key, Place key_place,
                   Message* message) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(key);
    ASSIGN_OR_RETURN(const bool colon, Take(":"));
    const bool braces = LooksAt("{") || LooksAt("<");
    if (field == nullptr) return ReadShorthand(path, key, key_place, colon, message);
    if (!IsMessage(field)) {
      if (!colon) return Error(place(), absl::StrCat(key, ": expected ':', got ", Current()));
      const std::string field_path = DottedPath(path, key);
      RETURN_IF_ERROR(Claim(field_path, key_place));
      return ReadScalar(field_path, field, message);
    }
    if (field->is_repeated() && LooksAt("[")) return ReadList(path, field, message);
    if (!braces) return Error(place(), absl::StrCat(key, ": expected '{', got ", Current()));
    return ReadMessage(path, field, key_place, message);
  }

  // `key: value` or `key { ... }` where key is no field: a parameter or a part of a component.
  Status ReadShorthand(const std::string& path, const std::string& key, Place key_place, bool colon,
                       Message* message) {
    const FieldDescriptor* params = ParamsField(*message);
    const FieldDescriptor* parts = PartsField(*message);
    const bool braces = LooksAt("{") || LooksAt("<");
    if (params == nullptr || (braces && parts == nullptr)) {
      return Error(key_place, UnknownKey(*message, key));
    }
    const std::string entry_path = DottedPath(path, key);
    RETURN_IF_ERROR(Claim(entry_path, key_place));
    Message* entry = MapEntry(braces ? parts : params, key, message);
    const FieldDescriptor* value = (braces ? parts : params)->message_type()->map_value();
    if (braces) {
      return ReadBraces(entry_path, entry->GetReflection()->MutableMessage(entry, value));
    }
    if (!colon) {
      return Error(place(), absl::StrCat(key, ": expected ':' or '{', got ", Current()));
    }
    ASSIGN_OR_RETURN(const ScalarText scalar, TakeScalar(entry_path));
    entry->GetReflection()->SetString(entry, value, scalar.text);
    return absl::OkStatus();
  }

  Status ReadList(const std::string& path, const FieldDescriptor* field, Message* message) {
    const Place opened = place();
    RETURN_IF_ERROR(Next());
    while (!LooksAt("]")) {
      if (!LooksAt("{") && !LooksAt("<")) {
        if (AtEnd()) return Error(opened, "'[' without its ']'");
        return Error(place(), absl::StrCat(field->name(), ": expected '{', got ", Current()));
      }
      RETURN_IF_ERROR(ReadMessage(path, field, place(), message));
      ASSIGN_OR_RETURN(const bool comma, Take(","));
      if (!comma && !LooksAt("]")) {
        return Error(place(),
                     absl::StrCat(field->name(), ": expected ',' or ']', got ", Current()));
      }
    }
    return Next();
  }

  Status ReadMessage(const std::string& path, const FieldDescriptor* field, Place key_place,
                     Message* message) {
    if (field->is_map()) return ReadMapEntry(path, field, key_place, message);
    const Reflection* reflection = message->GetReflection();
    std::string field_path = DottedPath(path, field->name());
    if (field->is_repeated()) {
      field_path = DottedPath(field_path, absl::StrCat(reflection->FieldSize(*message, field)));
    }
    RETURN_IF_ERROR(Claim(field_path, key_place));
    return ReadBraces(field_path, field->is_repeated()
                                      ? reflection->AddMessage(message, field)
                                      : reflection->MutableMessage(message, field));
  }

  // `field { key: "k" value: v }`. The path of v holds k, which may come after v: origins are
  // gathered apart first.
  Status ReadMapEntry(const std::string& path, const FieldDescriptor* field, Place key_place,
                      Message* message) {
    const Place opened = place();
    const bool beside = field == ParamsField(*message) || field == PartsField(*message);
    const FieldDescriptor* value = field->message_type()->map_value();
    Message* entry = message->GetReflection()->AddMessage(message, field);
    Origins inner;
    Origins* const outer = std::exchange(origins_, &inner);
    const Status status = ReadBraces("", entry);
    origins_ = outer;
    RETURN_IF_ERROR(status);
    for (const char* needed : {"key", "value"}) {
      if (inner.count(needed) == 0) {
        return Error(opened, absl::StrCat(field->name(), ": an entry needs a key and a value"));
      }
    }
    const std::string key =
        entry->GetReflection()->GetString(*entry, field->message_type()->map_key());
    const std::string entry_path = DottedPath(beside ? path : DottedPath(path, field->name()), key);
    RETURN_IF_ERROR(Claim(entry_path, key_place));
    inner.erase("key");
    inner.erase("value");
    for (const auto& [inner_path, origin] : inner) {
      CHECK(IsMessage(value));
      origins_->emplace(absl::StrCat(entry_path, inner_path.substr(sizeof("value") - 1)), origin);
    }
    return absl::OkStatus();
  }

  Status ReadBraces(const std::string& path, Message* message) {
    const Place opened = place();
    const absl::string_view closing = LooksAt("<") ? ">" : "}";
    RETURN_IF_ERROR(Next());
    return ReadFields(path, closing, opened, message);
  }

  StatusOr<ScalarText> TakeScalar(absl::string_view path) {
    ScalarText scalar;
    ASSIGN_OR_RETURN(const bool minus, Take("-"));
    if (minus) scalar.text = "-";
    const Tokenizer::Token& token = tokens_.current();
    switch (token.type) {
      case Tokenizer::TYPE_INTEGER:
      case Tokenizer::TYPE_FLOAT:
        scalar.kind = ScalarText::kNumber;
        absl::StrAppend(&scalar.text, token.text);
        RETURN_IF_ERROR(Next());
        return scalar;
      case Tokenizer::TYPE_IDENTIFIER:
        scalar.kind = ScalarText::kWord;
        absl::StrAppend(&scalar.text, token.text);
        RETURN_IF_ERROR(Next());
        return scalar;
      case Tokenizer::TYPE_STRING:
        if (minus) break;
        scalar.kind = ScalarText::kString;
        while (tokens_.current().type == Tokenizer::TYPE_STRING) {
          Tokenizer::ParseStringAppend(tokens_.current().text, &scalar.text);
          RETURN_IF_ERROR(Next());
        }
        return scalar;
      default:
        break;
    }
    return Error(place(), absl::StrCat(path, ": expected a value, got ", Current()));
  }

  Status ReadScalar(const std::string& path, const FieldDescriptor* field, Message* message) {
    const Place value_place = place();
    ASSIGN_OR_RETURN(const ScalarText scalar, TakeScalar(path));
    const Status status = SetScalar(scalar, field, message);
    if (status.ok()) return status;
    return Error(value_place, absl::StrCat(path, ": ", status.message()));
  }

  const std::string name_;
  google::protobuf::io::ArrayInputStream stream_;
  FirstError error_;
  Tokenizer tokens_;
  Origins* origins_;
  int depth_ = 0;
};

// Where the rest of an assignment's path leads: a message and one key in it.
struct Target {
  Message* message;
  std::string key;
};

// Descends through every step of the path but the last.
StatusOr<Target> Descend(const std::vector<std::string>& steps, Message* message) {
  size_t i = 0;
  while (i + 1 < steps.size()) {
    const Reflection* reflection = message->GetReflection();
    const std::string& step = steps[i++];
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(step);
    if (field == nullptr) {
      const FieldDescriptor* parts = PartsField(*message);
      if (parts == nullptr) return absl::InvalidArgumentError(UnknownKey(*message, step));
      Message* entry = MapEntry(parts, step, message);
      message = entry->GetReflection()->MutableMessage(entry, parts->message_type()->map_value());
    } else if (!IsMessage(field)) {
      return absl::InvalidArgumentError(absl::StrCat(step, " is a value, not a message"));
    } else if (field->is_map()) {
      if (field == ParamsField(*message) || field == PartsField(*message)) {
        return absl::InvalidArgumentError(
            absl::StrCat("paths leave out '", step, "', as in optimizer.beta1"));
      }
      const std::string& key = steps[i++];
      if (i >= steps.size()) {
        return absl::InvalidArgumentError(absl::StrCat(key, " is a message; give one of its keys"));
      }
      Message* entry = MapEntry(field, key, message);
      message = entry->GetReflection()->MutableMessage(entry, field->message_type()->map_value());
    } else if (field->is_repeated()) {
      int64_t index;
      const std::string& text = steps[i++];
      const int size = reflection->FieldSize(*message, field);
      if (!ParseInt(text, &index) || index < 0 || index >= size) {
        return absl::InvalidArgumentError(
            absl::StrCat(step, " has ", size, " entries; '", text, "' is not the index of one"));
      }
      if (i >= steps.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat(text, " is a message; give one of its keys"));
      }
      message = reflection->MutableRepeatedMessage(message, field, static_cast<int>(index));
    } else {
      message = reflection->MutableMessage(message, field);
    }
  }
  return Target{message, steps.back()};
}

Status Assign(const std::string& path, const std::string& value, Message* root) {
  const std::vector<std::string> steps = absl::StrSplit(path, '.');
  for (const std::string& step : steps) {
    if (step.empty()) return absl::InvalidArgumentError("the path has an empty part");
  }
  ASSIGN_OR_RETURN(const Target target, Descend(steps, root));
  const FieldDescriptor* field = target.message->GetDescriptor()->FindFieldByName(target.key);
  if (field != nullptr) {
    if (IsMessage(field)) {
      return absl::InvalidArgumentError(
          absl::StrCat(target.key, " is a message; give one of its keys"));
    }
    return SetScalar({ScalarText::kAny, value}, field, target.message);
  }
  const FieldDescriptor* params = ParamsField(*target.message);
  if (params == nullptr) {
    return absl::InvalidArgumentError(UnknownKey(*target.message, target.key));
  }
  Message* entry = MapEntry(params, target.key, target.message);
  entry->GetReflection()->SetString(entry, params->message_type()->map_value(), value);
  return absl::OkStatus();
}

}  // namespace

Status ReadTextProto(absl::string_view name, absl::string_view text, Message* message,
                     Origins* origins) {
  return Reader(name, text, origins).Read(message);
}

Status ApplyAssignment(absl::string_view assignment, Message* message, Origins* origins) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(assignment, absl::MaxSplits('=', 1));
  const auto& [path, value] = parts;
  if (assignment.find('=') == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", assignment, ": expected path=value, as in --set num_steps=100"));
  }
  const Status status = Assign(path, value, message);
  if (!status.ok()) return Annotate(status, absl::StrCat("--set ", assignment));
  (*origins)[path] = "--set";
  return absl::OkStatus();
}

}  // namespace trireme
