#include "core/io/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace trireme {
namespace {

using ::testing::HasSubstr;

std::string Written(const Json& json) {
  std::string text;
  JsonWriter(&text).Value(json);
  return text;
}

TEST(JsonTest, ReadsEveryType) {
  const auto json =
      ParseJson(" {\"a\" : [1, -2.5e1, true, false, null, \"x\"],\r\n\t\"b\":{}, \"c\":[] } ");
  ASSERT_TRUE(json.ok()) << json.status();
  const Json::Array& a = *json->Find("a")->As<Json::Array>();
  ASSERT_EQ(a.size(), 6u);
  EXPECT_EQ(*a[0].As<int64_t>(), 1);
  EXPECT_EQ(*a[1].As<double>(), -25.0);
  EXPECT_TRUE(*a[2].As<bool>());
  EXPECT_FALSE(*a[3].As<bool>());
  EXPECT_TRUE(a[4].IsNull());
  EXPECT_EQ(*a[5].As<std::string>(), "x");
  EXPECT_TRUE(json->Find("b")->As<Json::Object>()->empty());
  EXPECT_EQ(json->Find("d"), nullptr);
  EXPECT_EQ(a[0].Find("a"), nullptr);
  EXPECT_EQ(Written(*json), R"({"a":[1,-25.0,true,false,null,"x"],"b":{},"c":[]})");
}

TEST(JsonTest, NumbersKeepTheirTypeAndEveryBit) {
  for (const absl::string_view text :
       {"0", "-9223372036854775808", "9223372036854775807", "0.1", "1e+300", "5e-324", "-0.0",
        "1.7976931348623157e+308", "3.0"}) {
    const auto json = ParseJson(text);
    ASSERT_TRUE(json.ok()) << text << json.status();
    EXPECT_EQ(Written(*json), text);
  }
  EXPECT_EQ(*ParseJson("-0")->As<int64_t>(), 0);
  EXPECT_EQ(*ParseJson("1e-400")->As<double>(), 0.0);
  EXPECT_EQ(Written(Json(std::nan(""))), "null");
  EXPECT_EQ(Written(Json(std::numeric_limits<double>::infinity())), "null");
}

TEST(JsonTest, StringsAndEscapes) {
  const auto json = ParseJson(R"("\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83d\ude00")");
  ASSERT_TRUE(json.ok()) << json.status();
  const std::string expected = "\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
  EXPECT_EQ(*json->As<std::string>(), expected);
  EXPECT_EQ(*ParseJson(Written(*json)), *json);
  EXPECT_EQ(Written(Json(std::string("a\xFF\x01z"))), "\"a\xEF\xBF\xBD\\u0001z\"");
}

TEST(JsonTest, WriterSeparates) {
  std::string line;
  JsonWriter(&line)
      .BeginObject()
      .Key("step")
      .Int(3)
      .Key("x")
      .BeginArray()
      .Double(0.5)
      .Null()
      .EndArray()
      .Key("o")
      .BeginObject()
      .EndObject()
      .Key("b")
      .Bool(true)
      .EndObject();
  EXPECT_EQ(line, R"({"step":3,"x":[0.5,null],"o":{},"b":true})");
}

struct BadText {
  const char* text;
  const char* message;
};

class JsonRejectionTest : public ::testing::TestWithParam<BadText> {};

TEST_P(JsonRejectionTest, NamesWhatAndWhere) {
  const auto json = ParseJson(GetParam().text);
  ASSERT_FALSE(json.ok()) << GetParam().text;
  EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(json.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Texts, JsonRejectionTest,
    ::testing::Values(
        BadText{"", "expected a value at byte 0"}, BadText{"  ", "expected a value at byte 2"},
        BadText{"{", "expected a key at byte 1"}, BadText{"{\"a\"", "expected ':' at byte 4"},
        BadText{"{\"a\":1", "expected ',' or '}' at byte 6"},
        BadText{"{\"a\":1,}", "expected a key at byte 7"},
        BadText{"{1:2}", "expected a key at byte 1"},
        BadText{"[1", "expected ',' or ']' at byte 2"},
        BadText{"[1,]", "expected a value at byte 3"},
        BadText{"[1 2]", "expected ',' or ']' at byte 3"},
        BadText{"1 2", "expected the end at byte 2"}, BadText{"tru", "expected a value at byte 0"},
        BadText{"nul", "expected a value"}, BadText{"falsy", "expected a value"},
        BadText{"True", "expected a value at byte 0"}, BadText{"01", "expected the end at byte 1"},
        BadText{"-", "expected a value at byte 1"}, BadText{"+1", "expected a value"},
        BadText{".5", "expected a value"}, BadText{"1.", "expected a digit at byte 2"},
        BadText{"1e", "expected a digit at byte 2"}, BadText{"1e+", "expected a digit at byte 3"},
        BadText{"NaN", "expected a value"}, BadText{"0x10", "expected the end at byte 1"},
        BadText{"1e999", "range of a double"}, BadText{"-1e999", "range of a double"},
        BadText{"9223372036854775808", "beyond 64 bits"}, BadText{"\"a", "expected '\"' at byte 2"},
        BadText{"\"\n\"", "control character"}, BadText{"\"\\x\"", "unknown escape at byte 2"},
        BadText{"\"\\", "unknown escape at byte 2"},
        BadText{"\"\\u12\"", "four hexadecimal digits"}, BadText{"\"\\u+123\"", "four hexadecimal"},
        BadText{"\"\\ud800\"", "lone surrogate"}, BadText{"\"\\ud800\\n\"", "lone surrogate"},
        BadText{"\"\\ud800\\u12", "four hexadecimal"}, BadText{"\"\\udc00\"", "lone surrogate"},
        BadText{"\"\\ud800\\u0041\"", "lone surrogate"}, BadText{"\"\x80\"", "UTF-8 at byte 1"},
        BadText{"\"\xC0\x80\"", "UTF-8"}, BadText{"\"\xC3\"", "UTF-8"},
        BadText{"\"\xE0\x80\x80\"", "UTF-8"}, BadText{"\"\xED\xA0\x80\"", "UTF-8"},
        BadText{"\"\xF0\x80\x80\x80\"", "UTF-8"}, BadText{"\"\xF4\x90\x80\x80\"", "UTF-8"},
        BadText{"\"\xF5\x80\x80\x80\"", "UTF-8"}, BadText{"\xEF\xBB\xBF{}", "expected a value"},
        BadText{"{\"a\":1,\"b\":2,\"\\u0061\":3}", "key 'a' twice"}));

TEST(JsonTest, LimitsHold) {
  const JsonLimits limits{.max_bytes = 20, .max_values = 4, .max_depth = 2};
  EXPECT_TRUE(ParseJson("[[1,2]]", limits).ok());
  EXPECT_THAT(std::string(ParseJson("[[[1]]]", limits).status().message()), HasSubstr("deeper"));
  EXPECT_THAT(std::string(ParseJson("[{\"a\":{}}]", limits).status().message()),
              HasSubstr("deeper"));
  EXPECT_THAT(std::string(ParseJson("[1,2,3,4]", limits).status().message()), HasSubstr("values"));
  EXPECT_THAT(std::string(ParseJson(std::string(21, ' '), limits).status().message()),
              HasSubstr("21 bytes"));
  // A hostile depth must not exhaust the stack.
  EXPECT_FALSE(ParseJson(std::string(1'000'000, '[')).ok());
}

TEST(JsonTest, EveryPrefixOfAnObjectIsRefused) {
  const std::string text = R"({"a":[1.5e-3,"\u00e9\n"],"b":{"c":null,"d":true}})";
  ASSERT_TRUE(ParseJson(text).ok());
  for (size_t n = 0; n < text.size(); ++n) EXPECT_FALSE(ParseJson(text.substr(0, n)).ok()) << n;
}

}  // namespace
}  // namespace trireme
