#include "core/strict_json.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

TEST(StrictJson, TakesOneNameInSeveralObjects) {
  const auto json = parse_strict_json(R"({"a": {"b": 1}, "b": [{"a": 2}, {"a": 3}]})");
  EXPECT_EQ(json["a"]["b"], 1);
  EXPECT_EQ(json["b"][1]["a"], 3);
}

TEST(StrictJson, RefusesOneNameTwiceInOneObject) {
  EXPECT_THAT(input_error_of([] { parse_strict_json(R"({"x": {"a": 1, "b": 2, "a": 3}})"); }),
              ::testing::HasSubstr("'a' occurs twice"));
}

TEST(StrictJson, SaysWhatIsNoJson) { EXPECT_THROW(parse_strict_json("{]"), nlohmann::json::exception); }

}  // namespace
}  // namespace amalgam
