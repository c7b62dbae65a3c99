#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/report_page.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

RunRecord run_of_three() {
  RunRecord run;
  run.tasks = {"a", "b", "c<"};
  for (const auto& task : run.tasks) run.metrics[task] = "accuracy";
  run.rows = {"one", "two"};
  run.protocol_subsets = {{"a", "b"}, {"a", "c<"}, {"b", "c<"}, {"a", "b", "c<"}};
  return run;
}

void add_subset(RunRecord& run, const std::string& row, const std::vector<std::string>& tasks,
                const std::vector<double>& normalised) {
  StepRecord step;
  step.kind = "protocol";
  step.details = {{"row", row}, {"tasks", tasks}, {"val_looks", 4}, {"evaluations", 3}, {"scores", json::array()}};
  for (size_t i = 0; i < 3; ++i) {
    ScoreLine line;
    line.method = row;
    line.task = run.tasks[i];
    line.split = "test";
    line.metric = "accuracy";
    line.value = 0.5;
    line.normalised = normalised[i];
    step.details["scores"].push_back(to_json(line));
  }
  run.steps.push_back(step);
}

TEST(ReportProtocol, TellsMeansAndSpreadByTheNumberOfExperts) {
  RunRecord run = run_of_three();
  add_subset(run, "one", {"a", "b"}, {0.9, 0.8, 0.3});   // 85 on the merged, 30 on the other
  add_subset(run, "one", {"a", "c<"}, {0.9, 0.5, 1.0});  // 95 and 50
  add_subset(run, "one", {"a", "b", "c<"}, {0.6, 0.7, 0.8});
  const auto page = protocol_section(run);
  EXPECT_THAT(page, HasSubstr("90.0 <small>± 7.1</small>"));  // √50
  EXPECT_THAT(page, HasSubstr("40.0 <small>± 14.1</small>"));
  EXPECT_THAT(page, HasSubstr("<td>70.0</td>"));
  EXPECT_THAT(page, AllOf(HasSubstr("<td>9</td>"), HasSubstr("<td>12</td>"))) << "evaluations, looks at val";
}

TEST(ReportProtocol, CountsWins) {
  RunRecord run = run_of_three();
  add_subset(run, "one", {"a", "b"}, {0.9, 0.8, 0.3});
  add_subset(run, "two", {"a", "b"}, {0.9, 0.9, 0.3});
  add_subset(run, "one", {"a", "c<"}, {0.9, 0.8, 0.3});
  add_subset(run, "two", {"a", "c<"}, {0.5, 0.9, 0.5});
  add_subset(run, "two", {"b", "c<"}, {0.5, 0.9, 0.5});
  const auto page = protocol_section(run);
  EXPECT_THAT(page, HasSubstr("<th scope=\"row\" class=\"word\">one</th><td></td><td>1 of 2</td><td>1</td>"));
  EXPECT_THAT(page, HasSubstr("<th scope=\"row\" class=\"word\">two</th><td>1 of 2</td><td></td><td>2</td>"));
}

TEST(ReportProtocol, TakesPlainScoresWhereOneIsNotNormalised) {
  RunRecord run = run_of_three();
  add_subset(run, "one", {"a", "b"}, {0.9, 0.8, 0.3});
  add_subset(run, "two", {"a", "b"}, {0.9, 0.9, 0.3});
  run.steps.back().details["scores"][1].erase("normalised");
  const auto page = protocol_section(run);
  EXPECT_THAT(page, AllOf(HasSubstr("50.0"), Not(HasSubstr("85.0")), Not(HasSubstr("90.0"))));
}

TEST(ReportProtocol, GivesNoMeanOfAccuracyAndPerplexity) {
  RunRecord run = run_of_three();
  run.metrics["b"] = "perplexity";
  add_subset(run, "one", {"a", "b"}, {0.9, 0.8, 0.3});
  auto& score = run.steps.back().details["scores"][1];
  score["metric"] = "perplexity";
  score.erase("normalised");
  EXPECT_THAT(protocol_section(run), AllOf(HasSubstr("have no mean"), Not(HasSubstr("<table"))));
}

TEST(ReportProtocol, SaysSoWhereThereIsNothingAndIsAbsentWhereNoneIsAskedFor) {
  EXPECT_THAT(protocol_section(run_of_three()), HasSubstr("class=\"missing\""));
  EXPECT_EQ(protocol_section(RunRecord()), "");
}

TEST(ReportProtocol, SaysSoWhereARecordIsDamaged) {
  RunRecord run = run_of_three();
  add_subset(run, "one", {"a", "b"}, {0.9, 0.8, 0.3});
  run.steps.back().details.erase("val_looks");
  EXPECT_THAT(protocol_section(run), AllOf(HasSubstr("class=\"missing\""), Not(HasSubstr("<table"))));
}

}  // namespace
}  // namespace amalgam
