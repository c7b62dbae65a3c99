#include "apps/recipe_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

std::vector<MergeRow> rows_of(const std::string& yaml) { return read_rows(with_seeds(YAML::Load(yaml))); }

TEST(RecipeRows, TakeAMethodByNameOrWithItsOptions) {
  const auto rows =
      rows_of("[average, {method: task_arithmetic, name: mine, scale: 0.2, reset_batch_norms: 7, seed: 3}]");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].name, "average");
  EXPECT_FALSE(rows[0].seed.has_value());
  EXPECT_EQ(rows[1].name, "mine");
  EXPECT_EQ(rows[1].method, "task_arithmetic");
  EXPECT_EQ(rows[1].options["scale"].as<double>(), 0.2);
  EXPECT_EQ(rows[1].reset_batch_norms, 7);
  EXPECT_EQ(rows[1].seed, 3);
}

TEST(RecipeRows, ComeOnceForEachOfTheirSeeds) {
  const auto rows = rows_of("[{method: dare, seeds: [0, 7]}, {method: dare, name: other, seeds: [1]}, average]");
  ASSERT_EQ(rows.size(), 4U);
  EXPECT_EQ(rows[0].name, "dare, seed 0");
  EXPECT_EQ(rows[0].seed, 0);
  EXPECT_EQ(rows[1].name, "dare, seed 7");
  EXPECT_EQ(rows[1].seed, 7);
  EXPECT_EQ(rows[2].name, "other, seed 1");
  EXPECT_EQ(rows[3].name, "average");
}

TEST(RecipeRows, RefuseSeedsThatAreNone) {
  const auto refusal = [](const std::string& yaml) { return input_error_of([&] { rows_of(yaml); }); };
  EXPECT_THAT(refusal("[{method: dare, seeds: []}]"), HasSubstr("merge[0].seeds: expected different seeds"));
  EXPECT_THAT(refusal("[{method: dare, seeds: [1, 1]}]"), HasSubstr("merge[0].seeds: expected different seeds"));
  EXPECT_THAT(refusal("[{method: dare, seeds: [1], seed: 2}]"), HasSubstr("give one of them"));
  EXPECT_THAT(refusal("[{method: dare, seed: -2}]"), HasSubstr("seed"));
}

TEST(RecipeRows, SayUnderWhichNamesScoresStand) {
  const auto names = [](const std::string& entry) { return scored_names(YAML::Load(entry)); };
  EXPECT_EQ(names("average"), std::vector<std::string>{"average"});
  EXPECT_EQ(names("{method: average, then: mats}"), std::vector<std::string>{"average, then mats"});
  EXPECT_EQ(names("{method: twin, name: mine, router: 5}"), (std::vector<std::string>{"mine", "mine, routed"}));
}

TEST(RecipeRows, AreNoneWhereTheListIsMissing) {
  EXPECT_TRUE(read_rows(with_seeds(YAML::Node())).empty());
  EXPECT_THAT(input_error_of([] { rows_of("average"); }), HasSubstr("merge: expected a list"));
}

TEST(NeedsOf, AreThoseOfEverySettingThatIsTried) {
  const auto needs = [](const std::string& yaml) { return needs_of(rows_of(yaml)[0]); };
  EXPECT_TRUE(needs("[{method: regmean, search: {weights: [uniform, gradient]}}]")
                  .statistics.contains(StatisticKind::kOutputGram));
  EXPECT_TRUE(needs("[{method: average, then: {method: mats, search: {normalise: [trace, fisher]}}}]")
                  .statistics.contains(StatisticKind::kSquaredGradient));
  EXPECT_FALSE(needs("[regmean]").statistics.contains(StatisticKind::kOutputGram));
  EXPECT_TRUE(needs("[lora_average]").adapters);
  EXPECT_FALSE(needs("[regmean]").adapters);
}

TEST(SettingsOf, CombineAllValuesOfASearch) {
  const auto row = rows_of("[{method: mats, damping: 3, search: {off_diagonal: [0.5, 1], iterations: [1, 2, 3]}}]")[0];
  const auto settings = settings_of(row);
  ASSERT_EQ(settings.size(), 6U);
  EXPECT_EQ(settings[5]["off_diagonal"].as<double>(), 1);
  EXPECT_EQ(settings[5]["iterations"].as<int>(), 3);
  EXPECT_EQ(settings[5]["damping"].as<double>(), 3);
}

}  // namespace
}  // namespace amalgam
