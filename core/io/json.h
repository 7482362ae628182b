// JSON (RFC 8259), strict and bounded: headers of safetensors files, lines of metrics, reports.
//
// Stricter than the RFC where it leaves a choice: text and escapes must be valid Unicode, keys of
// an object are unique, an integer fits int64_t, a number is finite.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

#include "core/base/status.h"

namespace trireme {

class Json {
 public:
  struct Member;
  using Array = std::vector<Json>;
  using Object = std::vector<Member>;  // In the order of the text.

  Json();  // null
  template <typename T>
  explicit Json(T value) : value_(std::move(value)) {}

  // The value when it is of type T, one of std::nullptr_t, bool, int64_t, double, std::string,
  // Array, Object; else nullptr. A number without fraction and exponent is an int64_t.
  template <typename T>
  const T* As() const {
    return std::get_if<T>(&value_);
  }
  bool IsNull() const { return As<std::nullptr_t>() != nullptr; }

  // The member of an object; nullptr when it has none of that name or this is no object.
  const Json* Find(absl::string_view key) const;

  friend bool operator==(const Json& a, const Json& b);

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_;
};

struct Json::Member {
  std::string key;
  Json value;
  friend bool operator==(const Member& a, const Member& b) = default;
};

inline Json::Json() = default;

struct JsonLimits {
  int64_t max_bytes = 100'000'000;
  int64_t max_values = 4'000'000;  // A value takes about 40 bytes of memory.
  int max_depth = 32;
};

// INVALID_ARGUMENT names the byte and what was expected there.
StatusOr<Json> ParseJson(absl::string_view text, const JsonLimits& limits = {});

// Appends JSON without white space, in call order:
//   JsonWriter(&line).BeginObject().Key("step").Int(3).Key("loss").Double(2.5).EndObject();
class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}

  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(absl::string_view key);
  JsonWriter& Null() { return Literal("null"); }
  JsonWriter& Bool(bool value) { return Literal(value ? "true" : "false"); }
  JsonWriter& Int(int64_t value);
  // The shortest text that reads back the same. NaN and infinity, which JSON lacks, become null.
  JsonWriter& Double(double value);
  // Bytes that are not UTF-8 become U+FFFD.
  JsonWriter& String(absl::string_view value);
  JsonWriter& Value(const Json& value);

 private:
  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  JsonWriter& Literal(absl::string_view text);
  void Separate();
  void Quote(absl::string_view text);

  std::string* out_;
  bool comma_ = false;  // Whether a comma stands before the next value or key.
};

}  // namespace trireme
