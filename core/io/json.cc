#include "core/io/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/charconv.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace trireme {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The length of the UTF-8 sequence that `text` (not empty) starts with; 0 when it is not valid: cut
// short, overlong, a surrogate, above U+10FFFF (Unicode 15, table 3-7).
int Utf8Length(absl::string_view text) {
  const auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const auto continues = [&byte](size_t i, int lo = 0x80, int hi = 0xBF) {
    return byte(i) >= lo && byte(i) <= hi;
  };
  const int first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  if (first < 0xE0) return continues(1) ? 2 : 0;
  if (first < 0xF0) {
    const int lo = first == 0xE0 ? 0xA0 : 0x80, hi = first == 0xED ? 0x9F : 0xBF;
    return continues(1, lo, hi) && continues(2) ? 3 : 0;
  }
  const int lo = first == 0xF0 ? 0x90 : 0x80, hi = first == 0xF4 ? 0x8F : 0xBF;
  return continues(1, lo, hi) && continues(2) && continues(3) ? 4 : 0;
}

void AppendUtf8(uint32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const int lead = more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0;
  out->push_back(static_cast<char>(lead | code >> 6 * more));
  for (int i = more - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(0x80 | (code >> 6 * i & 0x3F)));
  }
}

// A key that the object has twice; nullptr when there is none.
const std::string* DuplicateKey(const Json::Object& object) {
  std::vector<const std::string*> keys;
  keys.reserve(object.size());
  for (const Json::Member& member : object) keys.push_back(&member.key);
  std::sort(keys.begin(), keys.end(), [](auto* a, auto* b) { return *a < *b; });
  const auto twice =
      std::adjacent_find(keys.begin(), keys.end(), [](auto* a, auto* b) { return *a == *b; });
  return twice == keys.end() ? nullptr : *twice;
}

// Recursive descent; the depth is limited. Each Parse function returns false after setting error_.
class Parser {
 public:
  Parser(absl::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  StatusOr<Json> Parse() {
    Json value;
    if (!ParseValue(0, &value)) return error_;
    SkipSpace();
    if (at_ != text_.size()) {
      Expected("the end");
      return error_;
    }
    return value;
  }

 private:
  bool Fail(absl::string_view what) {
    error_ = absl::InvalidArgumentError(absl::StrCat("JSON: ", what, " at byte ", at_));
    return false;
  }
  bool Expected(absl::string_view what) { return Fail(absl::StrCat("expected ", what)); }

  void SkipSpace() {
    while (at_ < text_.size() && absl::StrContains(" \t\n\r", text_[at_])) ++at_;
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }

  bool ParseValue(int depth, Json* value) {
    if (++num_values_ > limits_.max_values) return Fail("more values than the limit");
    SkipSpace();
    switch (Peek()) {
      case '{':
        return ParseObject(depth, value);
      case '[':
        return ParseArray(depth, value);
      case '"': {
        std::string text;
        if (!ParseString(&text)) return false;
        *value = Json(std::move(text));
        return true;
      }
      case 't':
        return ParseLiteral("true", Json(true), value);
      case 'f':
        return ParseLiteral("false", Json(false), value);
      case 'n':
        return ParseLiteral("null", Json(), value);
      default:
        return ParseNumber(value);
    }
  }

  bool ParseLiteral(absl::string_view literal, Json meaning, Json* value) {
    if (!absl::StartsWith(text_.substr(at_), literal)) return Expected("a value");
    at_ += literal.size();
    *value = std::move(meaning);
    return true;
  }

  bool ParseObject(int depth, Json* value) {
    if (depth >= limits_.max_depth) return Fail("nested deeper than the limit");
    Json::Object object;
    Take('{');
    SkipSpace();
    if (!Take('}')) {
      do {
        Json::Member member;
        SkipSpace();
        if (Peek() != '"') return Expected("a key");
        if (!ParseString(&member.key)) return false;
        SkipSpace();
        if (!Take(':')) return Expected("':'");
        if (!ParseValue(depth + 1, &member.value)) return false;
        object.push_back(std::move(member));
        SkipSpace();
      } while (Take(','));
      if (!Take('}')) return Expected("',' or '}'");
    }
    if (const std::string* key = DuplicateKey(object)) {
      return Fail(absl::StrCat("key '", *key, "' twice in the object that ends"));
    }
    *value = Json(std::move(object));
    return true;
  }

  bool ParseArray(int depth, Json* value) {
    if (depth >= limits_.max_depth) return Fail("nested deeper than the limit");
    Json::Array array;
    Take('[');
    SkipSpace();
    if (!Take(']')) {
      do {
        if (!ParseValue(depth + 1, &array.emplace_back())) return false;
        SkipSpace();
      } while (Take(','));
      if (!Take(']')) return Expected("',' or ']'");
    }
    *value = Json(std::move(array));
    return true;
  }

  bool ParseString(std::string* out) {
    Take('"');
    while (!Take('"')) {
      if (at_ == text_.size()) return Expected("'\"'");
      if (Take('\\')) {
        if (!ParseEscape(out)) return false;
        continue;
      }
      if (static_cast<unsigned char>(Peek()) < 0x20) return Fail("control character in a string");
      const int length = Utf8Length(text_.substr(at_));
      if (length == 0) return Fail("invalid UTF-8");
      out->append(text_.data() + at_, length);
      at_ += length;
    }
    return true;
  }

  bool ParseEscape(std::string* out) {
    static constexpr absl::string_view kLetters = "\"\\/bfnrt";
    static constexpr absl::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (Take('u')) return ParseUnicodeEscape(out);
    const size_t which = kLetters.find(Peek());
    if (at_ == text_.size() || which == absl::string_view::npos) return Fail("unknown escape");
    out->push_back(kMeanings[which]);
    ++at_;
    return true;
  }

  bool ParseUnicodeEscape(std::string* out) {
    uint32_t code = 0;
    if (!ParseHex4(&code)) return false;
    if (code >= 0xD800 && code < 0xE000) {
      uint32_t low = 0;
      const bool paired = code < 0xDC00 && Take('\\') && Take('u');
      if (!paired) return Fail("lone surrogate");
      if (!ParseHex4(&low)) return false;
      if (low < 0xDC00 || low >= 0xE000) return Fail("lone surrogate");
      code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
    }
    AppendUtf8(code, out);
    return true;
  }

  bool ParseHex4(uint32_t* code) {
    const absl::string_view digits = text_.substr(at_, 4);
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), *code, 16);
    if (digits.size() < 4 || result.ec != std::errc() || result.ptr != digits.data() + 4) {
      return Expected("four hexadecimal digits");
    }
    at_ += 4;
    return true;
  }

  bool ParseNumber(Json* value) {
    const size_t begin = at_;
    bool integer = true;
    Take('-');
    if (!Take('0') && !TakeDigits()) return Expected("a value");
    if (Take('.')) {
      integer = false;
      if (!TakeDigits()) return Expected("a digit");
    }
    if (Take('e') || Take('E')) {
      integer = false;
      if (!Take('+')) Take('-');
      if (!TakeDigits()) return Expected("a digit");
    }
    const absl::string_view number = text_.substr(begin, at_ - begin);
    if (integer) {
      int64_t result;
      if (!absl::SimpleAtoi(number, &result)) return Fail("integer beyond 64 bits");
      *value = Json(result);
      return true;
    }
    double result = 0;
    const auto parsed = absl::from_chars(number.data(), number.data() + number.size(), result);
    // A magnitude that is too small rounds to zero or a subnormal: no error.
    if (parsed.ec == std::errc::result_out_of_range && std::abs(result) > 1) {
      return Fail("number beyond the range of a double");
    }
    *value = Json(result);
    return true;
  }

  bool TakeDigits() {
    const size_t begin = at_;
    while (IsDigit(Peek())) ++at_;
    return at_ > begin;
  }

  const absl::string_view text_;
  const JsonLimits& limits_;
  size_t at_ = 0;
  int64_t num_values_ = 0;
  Status error_;
};

}  // namespace

bool operator==(const Json& a, const Json& b) { return a.value_ == b.value_; }

const Json* Json::Find(absl::string_view key) const {
  const Object* object = As<Object>();
  if (object == nullptr) return nullptr;
  const auto it = std::find_if(object->begin(), object->end(),
                               [key](const Member& member) { return member.key == key; });
  return it == object->end() ? nullptr : &it->value;
}

StatusOr<Json> ParseJson(absl::string_view text, const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON: ", text.size(), " bytes, more than the limit of ", limits.max_bytes));
  }
  return Parser(text, limits).Parse();
}

void JsonWriter::Separate() {
  if (comma_) out_->push_back(',');
  comma_ = true;
}

JsonWriter& JsonWriter::Open(char bracket) {
  Separate();
  out_->push_back(bracket);
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char bracket) {
  out_->push_back(bracket);
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Literal(absl::string_view text) {
  Separate();
  out_->append(text.data(), text.size());
  return *this;
}

JsonWriter& JsonWriter::Key(absl::string_view key) {
  Separate();
  Quote(key);
  out_->push_back(':');
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Int(int64_t value) { return Literal(absl::StrCat(value)); }

JsonWriter& JsonWriter::Double(double value) {
  if (!std::isfinite(value)) return Null();
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  const absl::string_view digits(text, end - text);
  // "3" would read back as an integer.
  const bool looks_integer = digits.find_first_of(".e") == absl::string_view::npos;
  return Literal(absl::StrCat(digits, looks_integer ? ".0" : ""));
}

JsonWriter& JsonWriter::String(absl::string_view value) {
  Separate();
  Quote(value);
  return *this;
}

JsonWriter& JsonWriter::Value(const Json& value) {
  if (const bool* b = value.As<bool>()) return Bool(*b);
  if (const int64_t* i = value.As<int64_t>()) return Int(*i);
  if (const double* d = value.As<double>()) return Double(*d);
  if (const std::string* s = value.As<std::string>()) return String(*s);
  if (const Json::Array* array = value.As<Json::Array>()) {
    BeginArray();
    for (const Json& element : *array) Value(element);
    return EndArray();
  }
  if (const Json::Object* object = value.As<Json::Object>()) {
    BeginObject();
    for (const Json::Member& member : *object) Key(member.key).Value(member.value);
    return EndObject();
  }
  return Null();
}

void JsonWriter::Quote(absl::string_view text) {
  out_->push_back('"');
  while (!text.empty()) {
    const int length = Utf8Length(text);
    const char c = text[0];
    if (length == 0) {
      out_->append("\xEF\xBF\xBD");
    } else if (c == '"' || c == '\\') {
      out_->push_back('\\');
      out_->push_back(c);
    } else if (c == '\n') {
      out_->append("\\n");
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(out_, "\\u%04x", c);
    } else {
      out_->append(text.data(), length);
    }
    text.remove_prefix(std::max(length, 1));
  }
  out_->push_back('"');
}

}  // namespace trireme
