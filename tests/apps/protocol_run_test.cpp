// Rows merged of subsets of the experts, through the command.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/report_data.h"
#include "apps/run_folder.h"
#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

json subset_step(const SmallRun& run, const std::string& subset) {
  return json::parse(read_file(RunFolder(run.run()).step("protocol-" + subset)));
}

double value_of(const json& step, const std::string& task) {
  for (const auto& line : step.at("details").at("scores"))
    if (line.at("task") == task) return line.at("value").get<double>();
  ADD_FAILURE() << "no score of " << task;
  return 0;
}

void edit_for_protocol(SmallRun& run, const std::string& protocol) {
  run.edit("  - fisher\n  - regmean\n  - mats\n", "  - regmean\n");
  run.edit("evaluate: {batch: 64}", "protocol: " + protocol + "\nevaluate: {batch: 64}");
}

/// One expert alone is that expert, and all of them are the row itself.
TEST(Protocol, ScoresEverySubsetOnEveryTask) {
  SmallRun run;
  edit_for_protocol(run, "{subsets: 3, sizes: [1, 2]}");
  const auto result = run.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  double expert = 0, whole = 0;
  for (const auto& line : read_scores(run.run() / "scores.jsonl")) {
    if (line.task == "red" && line.split == "test" && line.method == "expert") expert = line.value;
    if (line.task == "red" && line.split == "test" && line.method == "regmean") whole = line.value;
  }
  EXPECT_EQ(value_of(subset_step(run, "average-red"), "red"), expert);
  EXPECT_EQ(value_of(subset_step(run, "regmean-red+blue"), "red"), whole);
  const auto alone = subset_step(run, "average-blue").at("details");
  EXPECT_EQ(alone.at("tasks"), json({"blue"}));
  EXPECT_EQ(alone.at("evaluations"), 2);
  EXPECT_EQ(alone.at("val_looks"), 0);
  EXPECT_EQ(alone.at("scores").at(0).at("subset"), "blue");
  EXPECT_EQ(subset_step(run, "task_arithmetic-red+blue").at("details").at("val_looks"), 4) << "two scales on two tasks";
  EXPECT_EQ(subset_step(run, "task_arithmetic-red").at("details").at("val_looks"), 2);
  EXPECT_THAT(read_file(run.run() / "report.html"), AllOf(HasSubstr("Subsets of the experts"), HasSubstr("#protocol")));
}

TEST(Protocol, GoesOnWhereItStopped) {
  SmallRun run;
  edit_for_protocol(run, "{subsets: 3, sizes: [1, 2]}");
  ASSERT_EQ(run.call("run").code, 0);
  std::filesystem::remove(RunFolder(run.run()).step("protocol-regmean-red"));
  const auto again = run.call("run").error;
  EXPECT_THAT(again, HasSubstr("protocol average red: finished before, unchanged"));
  EXPECT_THAT(again, Not(HasSubstr("protocol regmean red: finished before")));
  EXPECT_TRUE(std::filesystem::exists(RunFolder(run.run()).step("protocol-regmean-red")));
}

TEST(Protocol, ReportsTheSubsetsThatTheRecipeDrawsAlone) {
  SmallRun run;
  edit_for_protocol(run, "{subsets: 2, sizes: [1, 2]}");
  ASSERT_EQ(run.call("run").code, 0);
  EXPECT_EQ(read_run(RunFolder(run.run())).of_kind("protocol").size(), 3U * 3U);
  run.edit("subsets: 2, sizes: [1, 2]", "subsets: 1, sizes: [1]");
  ASSERT_EQ(run.call("run").code, 0);
  const auto record = read_run(RunFolder(run.run()));
  EXPECT_EQ(record.of_kind("protocol").size(), 3U) << "one subset a row";
  EXPECT_THAT(record.left_out, Contains("protocol average red+blue"));
}

/// The experts have not been scored on the split that the protocol reports.
TEST(Protocol, NormalisesOnTheReportedSplitWhateverSplitIsChosen) {
  SmallRun run;
  edit_for_protocol(run, "{subsets: 2, sizes: [1]}");
  ASSERT_EQ(run.call("evaluate", {"--split", "val"}).code, 0);
  for (const auto& line : subset_step(run, "average-red").at("details").at("scores")) {
    EXPECT_EQ(line.at("split"), "test");
    ASSERT_TRUE(line.contains("normalised")) << line;
    if (line.at("task") == "red") {
      EXPECT_EQ(line.at("normalised"), 1.0) << "the expert itself";
    }
  }
}

TEST(Protocol, NeverMergesWhatIsHeldOut) {
  SmallRun run;
  edit_for_protocol(run, "{subsets: 9, sizes: [1], held_out: [blue]}");
  const auto refused = run.call("run");
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.error, HasSubstr("1 of 2 tasks are left to merge"));
}

TEST(Protocol, RefusesEarlyWhatARowCannotMerge) {
  SmallRun run;
  edit_for_protocol(run, "{subsets: 9, sizes: [1, 2]}");
  run.edit("  - regmean\n", "  - slerp\n");
  const auto refused = run.call("run");
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.error, HasSubstr("slerp"));
  EXPECT_FALSE(std::filesystem::exists(run.run() / "base.pt"));
}

}  // namespace
}  // namespace amalgam
