#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/report_page.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

RunRecord run_of_two() {
  RunRecord run;
  run.tasks = {"one", "t<o"};
  run.metrics = {{"one", "accuracy"}, {"t<o", "perplexity"}};
  run.donor_rows = {"regmean"};
  return run;
}

void add_pair(RunRecord& run, const std::string& target, const std::string& donor, const json& details) {
  StepRecord step;
  step.kind = "donor";
  step.subject = "regmean " + target + " " + donor;
  step.details = details;
  step.details.update({{"row", "regmean"}, {"target", target}, {"donor", donor}, {"split", "test"}});
  run.steps.push_back(step);
}

TEST(ReportDonors, TellGainsAboveTheExpertAndTheWeightsThatGaveThem) {
  RunRecord run = run_of_two();
  add_pair(run, "one", "t<o",
           {{"metric", "accuracy"}, {"value", 0.875}, {"expert", 0.85}, {"weight", 0.3}, {"interval", {0.01, 0.04}}});
  add_pair(run, "t<o", "one", {{"metric", "perplexity"}, {"value", 12.5}, {"expert", 12.25}, {"weight", 1.0}});
  const auto page = donors_section(run);
  EXPECT_THAT(page, HasSubstr("<strong>+2.5</strong> <small>× 0.3</small>"));
  EXPECT_THAT(page, HasSubstr("−0.25 <small>× 1</small>")) << "a higher perplexity is a loss";
  EXPECT_THAT(page, HasSubstr("t&lt;o"));
  EXPECT_THAT(page, Not(HasSubstr("t<o")));
}

TEST(ReportDonors, AreBoldOnlyWhereTheIntervalLeavesOutZero) {
  RunRecord run = run_of_two();
  add_pair(run, "one", "t<o",
           {{"metric", "accuracy"}, {"value", 0.86}, {"expert", 0.85}, {"weight", 0.1}, {"interval", {-0.01, 0.03}}});
  EXPECT_THAT(donors_section(run), HasSubstr("<td>+1.0 <small>"));
}

TEST(ReportDonors, SaySoWhereNoPairWasMerged) {
  EXPECT_THAT(donors_section(run_of_two()), HasSubstr("class=\"missing\""));
  EXPECT_EQ(donors_section(RunRecord()), "");
}

TEST(ReportDonors, SaySoWhereARecordIsDamaged) {
  RunRecord run = run_of_two();
  add_pair(run, "one", "t<o", {{"metric", "accuracy"}});
  EXPECT_THAT(donors_section(run), HasSubstr("class=\"missing\""));
}

}  // namespace
}  // namespace amalgam
