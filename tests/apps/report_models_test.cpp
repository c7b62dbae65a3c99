#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/report_page.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ReportModels, DrawBothStagesOfFineTuningOnOneAxis) {
  RunRecord run;
  StepRecord step;
  step.kind = "train";
  step.subject = "one";
  step.inputs = {{"metric", "accuracy"}};
  step.details = {
      {"curve", {{{"step", 10}, {"val_value", 0.8}}, {{"step", 20}, {"val_value", 0.9}}}},
      {"best_step", 20},
      {"heads",
       {{"curve", {{{"step", 5}, {"val_value", 0.5}}, {{"step", 30}, {"val_value", 0.6}}}}, {"best_step", 30}}}};
  run.steps.push_back(step);
  const auto page = training_section(run);
  EXPECT_THAT(page,
              AllOf(HasSubstr("<title>private parameters alone</title>"), HasSubstr("Best on val at step 50: 90.0 %"),
                    HasSubstr("the private parameters alone were fitted")));
  run.steps[0].details.erase("heads");
  EXPECT_THAT(training_section(run), AllOf(HasSubstr("Best on val at step 20"), Not(HasSubstr("private"))));
}

}  // namespace
}  // namespace amalgam
