#include "apps/report_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "apps/report_page.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// A run of two tasks with base, expert and the rows `average` and `mats`, scored on test.
/// @param second  metric of the second task; the first one's is perplexity
RunRecord run_of(const std::string& second) {
  RunRecord run;
  run.tasks = {"one", "two"};
  run.rows = {"average", "mats"};
  run.metrics = {{"one", "perplexity"}, {"two", second}};
  const auto add = [&](const std::string& row, double one, double two) {
    for (const auto& [task, value] : {std::pair{"one", one}, std::pair{"two", two}}) {
      ScoreLine line;
      line.method = row;
      line.task = task;
      line.split = "test";
      line.metric = run.metrics.at(task);
      line.value = value;
      run.scores.push_back(line);
    }
  };
  const bool shares = second != "perplexity";
  add("base", 80, shares ? 0.25 : 60);
  add("expert", 10, shares ? 0.75 : 8);
  add("average", 30, shares ? 0.5 : 24);
  add("mats", 20, shares ? 0.625 : 12.5);
  return run;
}

TEST(ReportChoice, TakesTheLowestMeanWhereLowerIsBetter) {
  const auto choice = choose(run_of("perplexity"));
  ASSERT_TRUE(choice.best.has_value());
  EXPECT_EQ(choice.rows[*choice.best].method, "mats");
  EXPECT_EQ(*merit(choice.rows[*choice.best]), 16.25);
}

TEST(ReportChoice, SaysOnWhichSplitNoRowIsBetterThanAveraging) {
  auto run = run_of("perplexity");
  auto on_val = run.scores;
  for (auto& line : on_val) {
    line.split = "val";
    if (line.method == "mats") line.value *= 10;
  }
  run.scores.insert(run.scores.end(), on_val.begin(), on_val.end());
  EXPECT_THAT(
      headline(run),
      AllOf(HasSubstr("average reaches a mean perplexity of 27</strong> on test: no other row did better on val"),
            Not(HasSubstr("than plain averaging")), HasSubstr("<code>mats</code> is lower")));
  for (auto& line : run.scores)
    if (line.method == "mats" && line.split == "test") line.value *= 10;
  EXPECT_THAT(headline(run), HasSubstr("no other row does better than plain averaging"));
}

TEST(ReportChoice, SpeaksOfPerplexityWithoutPercent) {
  const auto run = run_of("perplexity");
  EXPECT_THAT(headline(run), AllOf(HasSubstr("mats reaches a mean perplexity of 16.25</strong> on test"),
                                   HasSubstr("10.75 below averaging"), Not(HasSubstr("%"))));
  EXPECT_THAT(scores_section(run), HasSubstr("<strong>16.25</strong>"));
  EXPECT_THAT(comparison_section(run), AllOf(HasSubstr("<title>mats: 16.25</title>"), Not(HasSubstr(" %"))));
}

TEST(ReportChoice, GivesNoMeanOfPerplexityAndAccuracyButEachTasks) {
  const auto run = run_of("accuracy");
  EXPECT_FALSE(choose(run).best.has_value());
  EXPECT_THAT(headline(run), HasSubstr("their scores have no mean"));
  EXPECT_THAT(scores_section(run), AllOf(HasSubstr("<strong>20</strong>"), HasSubstr("<strong>62.5</strong>"),
                                         HasSubstr("one<br>perplexity")));
  EXPECT_THAT(comparison_section(run),
              AllOf(HasSubstr("<title>mats: 20</title>"), HasSubstr("<title>mats: 62.5 %</title>"),
                    HasSubstr("an axis of its own"), Not(HasSubstr("Mean of the tasks"))));
}

TEST(ReportChoice, DrawsNoDotOfAnInfinitePerplexity) {
  auto run = run_of("perplexity");
  for (auto& line : run.scores)
    if (line.method == "average") line.value = std::numeric_limits<double>::infinity();
  EXPECT_THAT(comparison_section(run), AllOf(HasSubstr("<title>average: inf</title>"), Not(HasSubstr("\"inf"))));
  EXPECT_EQ(choose(run).best, 3U);
}

TEST(ReportChoice, DrawsTheSearchOfALowestPerplexity) {
  auto run = run_of("perplexity");
  auto& merge = run.merges.emplace_back();
  merge.row = "mats";
  for (const auto& [value, mean] : {std::pair{"1", 20.0}, std::pair{"2", 16.25}, std::pair{"3", 18.0}})
    merge.search.push_back({{{"damping", value}}, mean});
  EXPECT_THAT(searches_section(run), AllOf(HasSubstr("the best, damping = 2, reaches 16.25"),
                                           HasSubstr("<strong>16.25</strong>"), Not(HasSubstr(" %"))));
}

}  // namespace
}  // namespace amalgam
