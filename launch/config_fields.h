// Fields of config messages by name: what the text reader, --set, the printer and the checks share.
#pragma once

#include <google/protobuf/message.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"

namespace trireme {

// A value as it was written. kAny: from the command line, where nothing tells a number from a
// string.
struct ScalarText {
  enum Kind { kNumber, kWord, kString, kAny };
  Kind kind = kAny;
  std::string text;
};

// "prefix.key", or "key" at the top.
std::string DottedPath(absl::string_view prefix, absl::string_view key);

// The message's own name: "RunConfig.Mesh".
std::string MessageName(const google::protobuf::Message& message);

std::vector<std::string> FieldNames(const google::protobuf::Message& message);

// The map<string, string> named params (for parts: of messages) that makes a message a component,
// or null.
const google::protobuf::FieldDescriptor* ParamsField(const google::protobuf::Message& message);
const google::protobuf::FieldDescriptor* PartsField(const google::protobuf::Message& message);

// Sets a singular field. "expected an integer, got 'x'" when the text is not of its type.
Status SetScalar(const ScalarText& scalar, const google::protobuf::FieldDescriptor* field,
                 google::protobuf::Message* message);

// The text of a singular scalar, as SetScalar takes it. Strings as they are, without quotes.
std::string ScalarToText(const google::protobuf::Message& message,
                         const google::protobuf::FieldDescriptor* field);

// The entry `key` of a map with string keys, made when absent.
google::protobuf::Message* MapEntry(const google::protobuf::FieldDescriptor* field,
                                    absl::string_view key, google::protobuf::Message* message);
// The entries of a map with string keys, sorted.
std::map<std::string, const google::protobuf::Message*> SortedMap(
    const google::protobuf::FieldDescriptor* field, const google::protobuf::Message& message);

// Every value that is set, by path: {"optimizer.beta1", "0.9"}.
std::map<std::string, std::string> FlattenConfig(const google::protobuf::Message& message);

}  // namespace trireme
