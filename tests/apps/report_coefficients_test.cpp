#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "apps/report_page.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

RunRecord run_with(const SearchReport& search) {
  RunRecord run;
  auto& merge = run.merges.emplace_back();
  merge.row = "a<b";
  merge.coefficients = search;
  return run;
}

SearchReport scores(const std::vector<double>& values, bool lower) {
  SearchReport search;
  search.measure = "score on val";
  search.unit = "evaluations";
  search.lower_is_better = lower;
  for (size_t i = 0; i < values.size(); ++i) search.curve.push_back({static_cast<int64_t>(1 + 8 * i), values[i]});
  search.why = "the budget of 20 evaluations is spent";
  search.val_looks = 17;
  search.groups = {"net.0.", "net.1."};
  search.tasks = {"left", "right"};
  search.coefficients = {{0.25, -0.5}, {1.0, 0.125}};
  return search;
}

size_t count(const std::string& page, const std::string& text) {
  size_t found = 0;
  for (auto at = page.find(text); at != std::string::npos; at = page.find(text, at + 1)) ++found;
  return found;
}

TEST(ReportCoefficients, DrawTheScoresAndListWhatWasFound) {
  const auto page = searches_section(run_with(scores({0.5, 0.75, 0.625}, false)));
  EXPECT_EQ(count(page, "<polyline"), 2U);
  EXPECT_THAT(page, AllOf(HasSubstr("a&lt;b"), HasSubstr("17 evaluations; best so far at the end: 75.0 %"),
                          HasSubstr("the budget of 20 evaluations is spent"),
                          HasSubstr("4 coefficients by score on val, 17 evaluations of val"),
                          HasSubstr("<code>net.0.</code></th><td>0.250</td><td>-0.500</td>")));
}

TEST(ReportCoefficients, TakeTheLowestForTheBestWhereLowerIsBetter) {
  const auto page = searches_section(run_with(scores({5.0, 3.5, 4.0}, true)));
  EXPECT_THAT(page, AllOf(HasSubstr("best so far at the end: 3.5"), Not(HasSubstr("350"))));
}

TEST(ReportCoefficients, DrawTheRunningMeanOfBatches) {
  SearchReport search = scores({}, true);
  search.unit = "steps";
  search.measure = "entropy on val";
  for (int64_t i = 0; i < 100; ++i) search.curve.push_back({i, i < 75 ? 8.0 : i % 2 == 0 ? 1.0 : 2.0});
  search.val_looks = 0;
  const auto page = searches_section(run_with(search));
  EXPECT_THAT(page, HasSubstr("running mean at the end: 1.52"));  // of the last 25: 13 are 2, 12 are 1
  EXPECT_THAT(page, HasSubstr("0 evaluations of val"));
}

TEST(ReportCoefficients, ListNoneWhereAMaskWasSearchedFor) {
  SearchReport search = scores({0.75, 0.5}, true);
  search.unit = "steps";
  search.groups = search.tasks = {};
  search.coefficients = {};
  const auto page = searches_section(run_with(search));
  EXPECT_EQ(count(page, "<polyline"), 2U);
  EXPECT_THAT(page, AllOf(HasSubstr("a mask of them"), Not(HasSubstr("<table"))));
}

TEST(ReportCoefficients, StandMissingValuesAndNoSteps) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& values : {std::vector<double>{}, std::vector<double>{nan, 0.5, nan}}) {
    const auto page = searches_section(run_with(scores(values, false)));
    EXPECT_THAT(page, Not(HasSubstr("nan")));
    EXPECT_THAT(page, HasSubstr("4 coefficients"));
  }
}

}  // namespace
}  // namespace amalgam
