#include "apps/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "models/artefact.h"
#include "models/runner.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

double value_of(const std::vector<ScoreLine>& lines, const std::string& method, const std::string& task) {
  for (const auto& line : lines)
    if (line.method == method && line.task == task && line.split == "test") return line.value;
  ADD_FAILURE() << "no score of " << method << " on " << task;
  return -1;
}

TEST(Command, DoesTheWholeJobAndThenSkipsIt) {
  const SmallRun small;
  const auto first = small.call("run");
  ASSERT_EQ(first.code, 0) << first.error;
  EXPECT_THAT(first.out, AllOf(HasSubstr("test, %"), HasSubstr("regmean"), HasSubstr("report.html")));
  for (const char* file :
       {"recipe.resolved.yaml", "base.pt", "experts/red.pt", "statistics/blue.safetensors", "merged/mats.pt",
        "merged/mats.safetensors", "merged/mats.merge.json", "scores.jsonl", "report.html", "log.txt"})
    EXPECT_TRUE(std::filesystem::is_regular_file(small.run() / file)) << file;
  const auto lines = read_scores(small.run() / "scores.jsonl");
  EXPECT_EQ(lines.size(), 7U * 2 * 2);  // base, expert, five methods; two tasks; val and test
  EXPECT_GT(value_of(lines, "expert", "red"), 0.8);

  const auto scores = read_file(small.run() / "scores.jsonl");
  const auto written = std::filesystem::last_write_time(small.run() / "merged/mats.pt");
  const auto second = small.call("run");
  ASSERT_EQ(second.code, 0) << second.error;
  EXPECT_EQ(std::filesystem::last_write_time(small.run() / "merged/mats.pt"), written);
  EXPECT_EQ(read_file(small.run() / "scores.jsonl"), scores);
  EXPECT_THAT(second.error, HasSubstr("finished before"));
}

TEST(Command, TheMergedFileGivesTheScoresThatAreReported) {
  const SmallRun small;
  ASSERT_EQ(small.call("run").code, 0);
  const auto model = open_model(small.run() / "merged/mats.pt", at::kCPU);
  const SafetensorsFile data(small.data("red") / "test.safetensors");
  Batch batch;
  batch.inputs = {data.get("input.0")};
  const auto correct = model->forward(batch).argmax(1).eq(data.get("target")).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(correct, value_of(read_scores(small.run() / "scores.jsonl"), "mats", "red"), 1e-9);
}

TEST(Command, PrivateHeadsMakeOneModelForAllTasks) {
  SmallRun small;
  small.edit("tasks:", "private: [\"head.*\"]\ntasks:");
  const auto result = small.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  const auto lines = read_scores(small.run() / "scores.jsonl");
  for (const std::string task : {"red", "blue"}) {
    const auto model = open_multitask(small.run() / "merged/mats.pt", task, at::kCPU);
    const SafetensorsFile data(small.data(task) / "test.safetensors");
    Batch batch;
    batch.inputs = {data.get("input.0")};
    const auto correct = model->forward(batch).argmax(1).eq(data.get("target")).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(correct, value_of(lines, "mats", task), 1e-9);
  }
  EXPECT_FALSE(SafetensorsFile(small.run() / "merged/mats.safetensors").contains("head.weight"));
}

TEST(Command, OneSeedGivesTheSameFilesAndAnotherDoesNot) {
  const SmallRun a, b, c;
  ASSERT_EQ(a.call("merge", {"--method", "mats"}).code, 0);
  ASSERT_EQ(b.call("merge", {"--method", "mats"}).code, 0);
  ASSERT_EQ(c.call("merge", {"--method", "mats", "--seed", "2"}).code, 0);
  const auto merged = [](const SmallRun& small) { return read_file(small.run() / "merged/mats.safetensors"); };
  EXPECT_EQ(merged(a), merged(b));
  EXPECT_NE(merged(a), merged(c));
}

TEST(Command, AChangedOptionRedoesOnlyWhatDependsOnIt) {
  const SmallRun small;
  ASSERT_EQ(small.call("run").code, 0);
  const auto time_of = [&](const char* file) { return std::filesystem::last_write_time(small.run() / file); };
  const auto expert = time_of("experts/red.pt"), statistics = time_of("statistics/red.safetensors"),
             average = time_of("merged/average.pt"), mats = time_of("merged/mats.pt");
  ASSERT_EQ(small.call("run", {"--set", "merge.mats.damping=3"}).code, 0);
  EXPECT_EQ(time_of("experts/red.pt"), expert);
  EXPECT_EQ(time_of("statistics/red.safetensors"), statistics);
  EXPECT_EQ(time_of("merged/average.pt"), average);
  EXPECT_NE(time_of("merged/mats.pt"), mats);
}

TEST(Command, SaysWhatIsSeldomMeant) {
  SmallRun small;
  small.edit("  - name: red\n", "  - name: red\n    weight: 0\n");
  EXPECT_THAT(small.call("collect", {"--plan", "--set", "merge=[]", "--set", "statistics.kinds=[input_gram]"}).error,
              HasSubstr("tasks.red.weight is 0"));
  const auto weighed = small.call("collect", {"--plan", "--set", "tasks.red.weight=1"});
  EXPECT_EQ(weighed.code, 0) << weighed.error;
  EXPECT_THAT(weighed.error, Not(HasSubstr("weight is 0")));
}

TEST(Command, ADamagedOutputIsMadeAgain) {
  const SmallRun small;
  ASSERT_EQ(small.call("collect").code, 0);
  const auto file = small.run() / "statistics/red.safetensors";
  const auto whole = read_file(file);
  write_file(file, whole.substr(0, whole.size() / 2));
  ASSERT_EQ(small.call("collect").code, 0);
  EXPECT_EQ(read_file(file), whole);
}

TEST(Command, TheSearchedOptionIsTheBestOnVal) {
  const SmallRun small;
  ASSERT_EQ(small.call("merge", {"--method", "task_arithmetic"}).code, 0);
  const auto record = nlohmann::json::parse(read_file(small.run() / "merged/task_arithmetic.merge.json"));
  ASSERT_EQ(record.at("search").size(), 2U);
  const auto& first = record.at("search")[0];
  const auto& second = record.at("search")[1];
  const auto& best = second.at("mean").get<double>() > first.at("mean").get<double>() ? second : first;
  EXPECT_THAT(record.at("options").get<std::string>(),
              HasSubstr("scale: " + best.at("values").at("scale").get<std::string>()));
}

TEST(Command, GivenModelsAndStatisticsAreUsedAsTheyAre) {
  SmallRun made;
  ASSERT_EQ(made.call("run").code, 0);
  SmallRun given;
  const auto text = fmt::format(
      "name: small\nbase: {{model: {0}/base.pt}}\ntasks:\n"
      "  - {{name: red, data: {{format: tensors, root: {1}}}, expert: {{model: {0}/experts/red.pt}}, statistics: "
      "{0}/statistics/red.safetensors}}\n"
      "  - {{name: blue, data: {{format: tensors, root: {2}}}, expert: {{model: {0}/experts/blue.pt}}, statistics: "
      "{0}/statistics/blue.safetensors}}\n"
      "merge: [mats]\n",
      made.run().string(), made.data("red").string(), made.data("blue").string());
  write_file(given.recipe(), text);
  const auto result = given.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_EQ(read_file(given.run() / "merged/mats.safetensors"), read_file(made.run() / "merged/mats.safetensors"));

  // Statistics of the other expert are refused before any work.
  auto swapped = text;
  swapped.replace(swapped.find("statistics/red"), 14, "statistics/blue");
  write_file(given.recipe(), swapped);
  const auto refused = given.call("run", {"--set", "name=other"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.error, AllOf(HasSubstr("red"), HasSubstr("another expert")));
  EXPECT_FALSE(std::filesystem::exists(given.folder() / "runs/other/merged"));
}

TEST(Command, MergesOneRowFromTheStatisticsOfAll) {
  const SmallRun small;
  ASSERT_EQ(small.call("run").code, 0);
  const auto result = small.call("merge", {"--method", "regmean"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.error,
              AllOf(HasSubstr("collect red: finished before"), HasSubstr("merge regmean: finished before")));
}

TEST(Command, ReportSaysWhichRowsWereMergedAfterTheirScores) {
  const SmallRun small;
  const auto page = [&] { return read_file(small.run() / "report.html"); };
  const auto notice = HasSubstr("their scores are of the models before: <code>mats</code>");
  ASSERT_EQ(small.call("run").code, 0);
  EXPECT_THAT(page(), Not(notice));
  ASSERT_EQ(small.call("merge", {"--set", "merge.mats.damping=1000"}).code, 0);
  ASSERT_EQ(call_command({"report", small.run().string()}).code, 0);
  EXPECT_THAT(page(), notice);
  ASSERT_EQ(small.call("run", {"--set", "merge.mats.damping=1000"}).code, 0);
  EXPECT_THAT(page(), Not(notice));
}

TEST(Command, InspectAndMethodsAndHelpTell) {
  const SmallRun small;
  ASSERT_EQ(small.call("merge", {"--method", "mats"}).code, 0);
  EXPECT_THAT(call_command({"inspect", (small.run() / "experts/red.pt").string()}).out, HasSubstr("head.weight"));
  EXPECT_THAT(call_command({"inspect", (small.run() / "statistics/red.safetensors").string()}).out,
              HasSubstr("statistics of task 'red'"));
  EXPECT_THAT(call_command({"inspect", (small.run() / "merged/mats.safetensors").string()}).out, HasSubstr("sha256"));
  EXPECT_THAT(call_command({"inspect", (small.run() / "merged/mats.merge.json").string()}).out,
              HasSubstr("\"residual\""));
  EXPECT_THAT(call_command({"methods"}).out, AllOf(HasSubstr("average"), HasSubstr("mats"), HasSubstr("regmean")));
  EXPECT_THAT(call_command({"methods", "mats"}).out, HasSubstr("damping"));
  EXPECT_EQ(call_command({"--help"}).code, 0);
  EXPECT_EQ(call_command({"merge", "--help"}).code, 0);
  EXPECT_THAT(call_command({"--version"}).out, HasSubstr("amalgam 0."));
}

}  // namespace
}  // namespace amalgam
