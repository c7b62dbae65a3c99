#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "apps/report_page.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using Trials = std::vector<std::pair<std::string, double>>;  // value, mean

RunRecord run_with(const std::string& option, const Trials& trials) {
  RunRecord run;
  auto& merge = run.merges.emplace_back();
  merge.row = "a<b";
  for (const auto& [value, mean] : trials) merge.search.push_back({{{option, value}}, mean});
  return run;
}

size_t count(const std::string& page, const std::string& text) {
  size_t found = 0;
  for (auto at = page.find(text); at != std::string::npos; at = page.find(text, at + 1)) ++found;
  return found;
}

TEST(ReportSearches, DrawTheMeanAgainstTheOneNumberThatWasVaried) {
  const auto page = searches_section(run_with("scale", {{"0.5", 0.75}, {"0.1", 0.25}, {"1.0", 0.5}}));
  EXPECT_EQ(count(page, "<polyline"), 1u);
  EXPECT_EQ(count(page, "class=\"dot\""), 3u);
  EXPECT_THAT(page, HasSubstr("class=\"strong\">0.5</text>"));  // the mark of what was taken
  EXPECT_THAT(page, HasSubstr("the best, scale = 0.5, reaches 75.0 %"));
  EXPECT_THAT(page, HasSubstr(">scale = 0.5</th><td><strong>75.0</strong></td>"));
  EXPECT_THAT(page, Not(HasSubstr("logarithmic")));
  EXPECT_THAT(page, Not(HasSubstr("regularisation")));
}

TEST(ReportSearches, SortTheValuesByNumber) {
  const auto page = searches_section(run_with("iterations", {{"10", 0.1}, {"2", 0.2}, {"1", 0.3}}));
  const auto last = page.find("<title>10: 10.0 %");
  ASSERT_NE(last, std::string::npos);
  EXPECT_LT(page.find("<title>1: 30.0 %"), page.find("<title>2: 20.0 %"));
  EXPECT_LT(page.find("<title>2: 20.0 %"), last);
}

TEST(ReportSearches, TakeALogarithmicAxisWhereValuesSpanMoreThanAFactorOfTwenty) {
  // Ten is halfway between 1 and 100 on a logarithmic axis, and nearly at the left end of a linear one.
  const auto page = searches_section(run_with("iterations", {{"1", 0.1}, {"10", 0.3}, {"100", 0.2}}));
  EXPECT_THAT(page, HasSubstr("cx=\"236.0\""));  // the frame goes from 46 to 426
  EXPECT_THAT(page, HasSubstr("stopping early serves as regularisation"));
  EXPECT_THAT(searches_section(run_with("scale", {{"1", 0.1}, {"10.5", 0.3}, {"20", 0.2}})), HasSubstr("cx=\"236.0\""));
}

TEST(ReportSearches, DrawZeroAsALineWhereTheAxisIsLogarithmic) {
  const auto page = searches_section(run_with("damping", {{"0", 0.5}, {"0.1", 0.3}, {"100", 0.2}}));
  EXPECT_THAT(page, HasSubstr("class=\"limit\""));
  EXPECT_THAT(page, HasSubstr("the dashed line is the score at 0, which was taken"));
  EXPECT_EQ(count(page, "class=\"dot\""), 2u);
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_THAT(page, Not(HasSubstr("inf")));
}

TEST(ReportSearches, StandNegativeAndMissingMeans) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto page = searches_section(run_with("scale", {{"0.1", nan}, {"0.5", -1.25}, {"1", -3.5}}));
  EXPECT_THAT(page, HasSubstr("the best, scale = 0.5, reaches -125.0 %"));
  EXPECT_THAT(page, HasSubstr("-300 %"));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}

TEST(ReportSearches, DrawNothingOfWordsOrOfTwoOptionsButListThem) {
  for (const auto& page : {searches_section(run_with("normalise", {{"trace", 0.5}, {"rows", 0.25}})),
                           searches_section(run_with("damping", {{"1", 0.5}}))}) {
    EXPECT_THAT(page, Not(HasSubstr("<svg")));
    EXPECT_THAT(page, HasSubstr("<strong>50.0</strong>"));
  }
  RunRecord run = run_with("damping", {{"1", 0.5}, {"2", 0.25}});
  for (auto& trial : run.merges[0].search) trial.settings.emplace_back("scale", "1");
  EXPECT_THAT(searches_section(run), Not(HasSubstr("<svg")));
  EXPECT_THAT(searches_section(run), HasSubstr("damping = 1, scale = 1"));
}

TEST(ReportSearches, SaySoWhereThereWasNone) {
  EXPECT_THAT(searches_section(RunRecord()), HasSubstr("class=\"missing\""));
}

}  // namespace
}  // namespace amalgam
