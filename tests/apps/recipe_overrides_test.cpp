#include "apps/recipe_overrides.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

TEST(Overrides, SetKeysAlongAPath) {
  YAML::Node root = YAML::Load("{a: {b: 1}, tasks: [{name: left}, {name: right}], merge: [average, {method: mats}]}");
  apply_override(root, "a.b=2");
  apply_override(root, "a.c.d=[1, 2]");
  apply_override(root, "tasks.right.weight=0.5");
  apply_override(root, "merge.average.name=mean");
  apply_override(root, "merge.1.damping=3");
  EXPECT_EQ(root["a"]["b"].as<int>(), 2);
  EXPECT_EQ(root["a"]["c"]["d"].size(), 2U);
  EXPECT_EQ(root["tasks"][1]["weight"].as<double>(), 0.5);
  EXPECT_EQ(root["merge"][0]["method"].as<std::string>(), "average");
  EXPECT_EQ(root["merge"][0]["name"].as<std::string>(), "mean");
  EXPECT_EQ(root["merge"][1]["damping"].as<int>(), 3);
}

TEST(Overrides, SetWholeItemsOfLists) {
  YAML::Node root =
      YAML::Load("{merge: [average, {method: mats, name: mine}, regmean], evaluate: {splits: [val, test]}}");
  apply_override(root, "merge.regmean=ties");
  apply_override(root, "merge.0={method: fisher, floor: 1e-3}");
  apply_override(root, "merge.mine=slerp");
  apply_override(root, "evaluate.splits.0=train");
  EXPECT_EQ(root["merge"][0]["floor"].as<double>(), 1e-3);
  EXPECT_EQ(root["merge"][1].as<std::string>(), "slerp");
  EXPECT_EQ(root["merge"][2].as<std::string>(), "ties");
  EXPECT_EQ(root["evaluate"]["splits"][0].as<std::string>(), "train");
  EXPECT_EQ(root["evaluate"]["splits"][1].as<std::string>(), "test");
}

TEST(Overrides, SayWhatTheyCannotSet) {
  YAML::Node root = YAML::Load("{a: 1, tasks: [{name: left}]}");
  const auto refusal = [&](const std::string& text) { return input_error_of([&] { apply_override(root, text); }); };
  EXPECT_THAT(refusal("a"), HasSubstr("expected key=value"));
  EXPECT_THAT(refusal("=2"), HasSubstr("expected key=value"));
  EXPECT_THAT(refusal("tasks.lift.weight=1"), HasSubstr("there is no 'lift'"));
  EXPECT_THAT(refusal("a.b=1"), HasSubstr("holds a single value"));
  EXPECT_THAT(refusal("a=["), HasSubstr("no YAML"));
}

}  // namespace
}  // namespace amalgam
