// What the parser accepts, the writer writes so that it reads back equal.
#include "core/base/log.h"
#include "core/io/json.h"
#include "tests/fuzz/target.h"

bool trireme::fuzz::Accepts(absl::string_view input) {
  const StatusOr<Json> json = ParseJson(input);
  if (!json.ok()) return false;
  std::string text;
  JsonWriter(&text).Value(*json);
  const StatusOr<Json> again = ParseJson(text);
  CHECK(again.ok()) << again.status().ToString() << " of " << text;
  CHECK(*again == *json) << text;
  return true;
}
