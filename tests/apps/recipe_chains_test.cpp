#include "apps/recipe_chains.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

std::vector<MergeRow> rows_of(const std::string& yaml) { return read_rows(with_seeds(YAML::Load(yaml))); }

TEST(RecipeChains, TakeTheirStartFromAnotherRow) {
  const auto rows = rows_of("[{method: task_arithmetic, name: near, scale: 0.1}, {method: mats, init: near}]");
  EXPECT_EQ(rows[1].options["init"]["method"].as<std::string>(), "task_arithmetic");
  EXPECT_EQ(rows[1].options["init"]["scale"].as<double>(), 0.1);
}

TEST(RecipeChains, TakeWhatDareMergesWithFromAnotherRow) {
  const auto rows = rows_of("[{method: task_arithmetic, name: near, scale: 0.1}, {method: dare, inner: near}]");
  EXPECT_EQ(rows[1].options["inner"]["method"].as<std::string>(), "task_arithmetic");
  EXPECT_EQ(rows[1].options["inner"]["scale"].as<double>(), 0.1);
}

TEST(RecipeChains, LeaveAnInnerTaskAlone) {
  const auto rows = rows_of("[{method: average, name: left}, {method: layer_swap, inner: left, outer: right}]");
  EXPECT_EQ(rows[1].options["inner"].as<std::string>(), "left");
}

TEST(RecipeChains, GoOnWithOtherMethods) {
  const auto rows = rows_of(
      "[{method: ties, name: trimmed, density: 0.3}, "
      "{method: average, seed: 4, then: {method: mats, init: trimmed, then: trimmed}}, "
      "{method: average, name: mine, then: {method: mats, search: {damping: [1, 2]}}}]");
  EXPECT_EQ(rows[1].name, "average, then mats, then trimmed");
  EXPECT_EQ(rows[1].seed, 4);
  const auto stages = stages_of(rows[1]);
  ASSERT_EQ(stages.size(), 3U);
  EXPECT_EQ(stages[0].method, "average");
  EXPECT_EQ(stages[1].method, "mats");
  EXPECT_EQ(stages[1].options["init"]["method"].as<std::string>(), "ties");
  EXPECT_EQ(stages[2].method, "ties");
  EXPECT_EQ(stages[2].options["density"].as<double>(), 0.3);
  EXPECT_EQ(rows[1].method, "ties");

  EXPECT_EQ(rows[2].name, "mine");
  EXPECT_EQ(settings_of(rows[2]).size(), 2U);
  EXPECT_EQ(rows[2].earlier.size(), 1U);
  const YAML::Node written = written_options(rows[2], settings_of(rows[2])[1]);
  EXPECT_EQ(written["method"].as<std::string>(), "average");
  EXPECT_EQ(written["then"]["method"].as<std::string>(), "mats");
  EXPECT_EQ(written["then"]["damping"].as<double>(), 2);
}

TEST(RecipeChains, RefuseToGoOnFromWhatIsNoModelYet) {
  const auto refusal = [](const std::string& yaml) { return input_error_of([&] { rows_of(yaml); }); };
  EXPECT_THAT(refusal("[{method: adamerging, then: average}]"), HasSubstr("'adamerging' is found by a search"));
  EXPECT_THAT(refusal("[{method: tall, then: average}]"), HasSubstr("'tall' keeps parts of tasks"));
  EXPECT_THAT(refusal("[{method: average, then: lora_average}]"), HasSubstr("changes from the base"));
  EXPECT_THAT(refusal("[{method: mats, search: {damping: [1]}, then: average}]"), HasSubstr("the last `then`"));
  EXPECT_THAT(refusal("[{method: average, then: {method: ties, seed: 1}}]"), HasSubstr("merge[0].then: `name`"));
  EXPECT_THAT(refusal("[{method: average, then: {method: ties, scole: 1}}]"), HasSubstr("did you mean 'scale'"));
  EXPECT_THAT(refusal("[{method: average, then: {}}]"), HasSubstr("expected a method's name"));
}

}  // namespace
}  // namespace amalgam
