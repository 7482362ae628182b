#include "launch/config_fields.h"

#include <google/protobuf/descriptor.h>

#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "core/base/log.h"
#include "core/base/params.h"

namespace trireme {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string DoubleToText(double value) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

const FieldDescriptor* MapNamed(const Message& message, const char* name, bool of_messages) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || !field->is_map()) return nullptr;
  const bool messages =
      field->message_type()->map_value()->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  return messages == of_messages ? field : nullptr;
}

void Flatten(const Message& message, const std::string& path,
             std::map<std::string, std::string>* values) {
  const Reflection* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    // A component's parameters and parts stand beside its name.
    const bool beside = field == ParamsField(message) || field == PartsField(message);
    const std::string field_path = beside ? path : DottedPath(path, field->name());
    if (field->is_map()) {
      const FieldDescriptor* value = field->message_type()->map_value();
      for (const auto& [key, entry] : SortedMap(field, message)) {
        const std::string entry_path = DottedPath(field_path, key);
        if (value->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
          Flatten(entry->GetReflection()->GetMessage(*entry, value), entry_path, values);
        } else {
          (*values)[entry_path] = ScalarToText(*entry, value);
        }
      }
    } else if (field->is_repeated()) {
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        Flatten(reflection->GetRepeatedMessage(message, field, i),
                DottedPath(field_path, absl::StrCat(i)), values);
      }
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Flatten(reflection->GetMessage(message, field), field_path, values);
    } else {
      (*values)[field_path] = ScalarToText(message, field);
    }
  }
}

}  // namespace

std::string DottedPath(absl::string_view prefix, absl::string_view key) {
  return prefix.empty() ? std::string(key) : absl::StrCat(prefix, ".", key);
}

std::string MessageName(const Message& message) {
  const std::string& name = message.GetDescriptor()->full_name();
  return std::string(absl::StripPrefix(name, "trireme."));
}

std::vector<std::string> FieldNames(const Message& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    names.push_back(message.GetDescriptor()->field(i)->name());
  }
  return names;
}

const FieldDescriptor* ParamsField(const Message& message) {
  return MapNamed(message, "params", /*of_messages=*/false);
}

const FieldDescriptor* PartsField(const Message& message) {
  return MapNamed(message, "parts", /*of_messages=*/true);
}

Status SetScalar(const ScalarText& scalar, const FieldDescriptor* field, Message* message) {
  const Reflection* reflection = message->GetReflection();
  const auto wrong_type = [&](absl::string_view expected) {
    const char* quote = scalar.kind == ScalarText::kString ? "\"" : "'";
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", expected, ", got ", quote, scalar.text, quote));
  };
  const auto is = [&](ScalarText::Kind kind) {
    return scalar.kind == kind || scalar.kind == ScalarText::kAny;
  };
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value;
      if (!is(ScalarText::kNumber) || !ParseInt(scalar.text, &value)) {
        return wrong_type("an integer");
      }
      reflection->SetInt64(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value;
      if (!is(ScalarText::kNumber) || !ParseFloat(scalar.text, &value) || !std::isfinite(value)) {
        return wrong_type("a number");
      }
      reflection->SetDouble(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool value;
      if (!is(ScalarText::kWord) || !ParseBool(scalar.text, &value)) {
        return wrong_type("true or false");
      }
      reflection->SetBool(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_STRING:
      if (!is(ScalarText::kString)) return wrong_type("a string in quotes");
      reflection->SetString(message, field, scalar.text);
      return absl::OkStatus();
    default:
      LOG(FATAL) << "the config has a field of a type that is not read: " << field->full_name();
      std::abort();
  }
}

std::string ScalarToText(const Message& message, const FieldDescriptor* field) {
  const Reflection* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection->GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return DoubleToText(reflection->GetDouble(message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, field) ? "true" : "false";
    default:
      return reflection->GetString(message, field);
  }
}

Message* MapEntry(const FieldDescriptor* field, absl::string_view key, Message* message) {
  const Reflection* reflection = message->GetReflection();
  const FieldDescriptor* key_field = field->message_type()->map_key();
  for (int i = 0; i < reflection->FieldSize(*message, field); ++i) {
    Message* entry = reflection->MutableRepeatedMessage(message, field, i);
    if (entry->GetReflection()->GetString(*entry, key_field) == key) return entry;
  }
  Message* entry = reflection->AddMessage(message, field);
  entry->GetReflection()->SetString(entry, key_field, std::string(key));
  return entry;
}

std::map<std::string, const Message*> SortedMap(const FieldDescriptor* field,
                                                const Message& message) {
  const Reflection* reflection = message.GetReflection();
  std::map<std::string, const Message*> entries;
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(message, field, i);
    const std::string key =
        entry.GetReflection()->GetString(entry, field->message_type()->map_key());
    entries[key] = &entry;
  }
  return entries;
}

std::map<std::string, std::string> FlattenConfig(const Message& message) {
  std::map<std::string, std::string> values;
  Flatten(message, "", &values);
  return values;
}

}  // namespace trireme
