#include "apps/predictions.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/safetensors.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Predictions, KeepWhoseTheyAreAndTheDigestOfTheirTensors) {
  const TemporaryFolder folder;
  const Predictions predictions{at::tensor({1, 0}, at::kLong), at::tensor({1, 1}, at::kLong), at::tensor({0.5F, 2.F})};
  write_predictions(folder / "p.safetensors", predictions, {"average", "left", "test", "f1", "cross_entropy"});
  const SafetensorsFile file(folder / "p.safetensors");
  EXPECT_TRUE(at::equal(file.get("prediction"), predictions.prediction));
  EXPECT_TRUE(at::equal(file.get("target"), predictions.target));
  EXPECT_TRUE(at::equal(file.get("loss"), predictions.loss));
  auto metadata = file.metadata();
  EXPECT_EQ(metadata["row"] + " " + metadata["task"] + " " + metadata["split"] + " " + metadata["metric"],
            "average left test f1");
  EXPECT_EQ(metadata["digest"], digest_of(file));
}

TEST(Predictions, CountTheRightTargetsOfEachExample) {
  const TemporaryFolder folder;
  const auto count = [&](const at::Tensor& prediction, const at::Tensor& target, const std::string& loss) {
    write_predictions(folder / "p.safetensors", {prediction, target, at::zeros({target.size(0)})},
                      {"average", "left", "test", "accuracy", loss});
    return read_right_targets(folder / "p.safetensors");
  };
  const auto classes = count(at::tensor({2, 1, 0}, at::kLong), at::tensor({2, 0, 0}, at::kLong), "cross_entropy");
  EXPECT_TRUE(at::equal(classes.right, at::tensor({1., 0., 1.}, at::kDouble)));
  EXPECT_TRUE(at::equal(classes.count, at::ones({3}, at::kDouble)));
  const auto tokens = count(at::tensor({1, 1, 0, 2}, at::kLong).view({2, 2}),
                            at::tensor({1, 0, -100, -1}, at::kLong).view({2, 2}), "cross_entropy");
  EXPECT_TRUE(at::equal(tokens.right, at::tensor({1., 0.}, at::kDouble)));
  EXPECT_TRUE(at::equal(tokens.count, at::tensor({2., 0.}, at::kDouble)));
  const auto labels = count(at::tensor({1, 0, 1, 1}, at::kLong).view({2, 2}),
                            at::tensor({0.9, 0.1, 0.2, 1.}).view({2, 2}), "binary_cross_entropy");
  EXPECT_TRUE(at::equal(labels.right, at::tensor({2., 1.}, at::kDouble)));
}

TEST(Predictions, OfValuesAreNeitherRightNorWrong) {
  const TemporaryFolder folder;
  write_predictions(folder / "p.safetensors", {at::zeros({2}), at::zeros({2}), at::zeros({2})},
                    {"average", "left", "test", "pearson", "mean_squared_error"});
  EXPECT_THAT(input_error_of([&] { read_right_targets(folder / "p.safetensors"); }),
              HasSubstr("neither right nor wrong"));
}

/// The merge of a small run is of these rows alone.
void edit_rows(SmallRun& small) {
  small.edit("  - {method: task_arithmetic, search: {scale: [0.3, 0.5]}}\n  - fisher\n  - regmean\n  - mats\n",
             "  - {method: task_arithmetic, scale: 0.4}\n");
}

std::filesystem::path file_of(const SmallRun& small, const std::string& row) {
  return small.run() / "predictions" / row / "red.test.safetensors";
}

TEST(Predictions, AreWrittenOnRequestAndGiveTheScores) {
  SmallRun small;
  edit_rows(small);
  ASSERT_EQ(small.call("evaluate").code, 0);
  EXPECT_FALSE(std::filesystem::exists(small.run() / "predictions"));
  // The scores are there already: that alone must not let the step be skipped.
  const auto scores = read_scores(small.run() / "scores.jsonl");
  const auto result = small.call("evaluate", {"--predictions"});
  ASSERT_EQ(result.code, 0) << result.error;
  int64_t files = 0;
  for (const auto& line : scores) {
    const auto path = small.run() / "predictions" / line.method / (line.task + "." + line.split + ".safetensors");
    const auto found = read_right_targets(path);
    EXPECT_EQ(found.count.sum().item<double>(), static_cast<double>(line.count));
    EXPECT_EQ(found.right.sum().item<double>() / found.count.sum().item<double>(), line.value) << path;
    EXPECT_NEAR(SafetensorsFile(path).get("loss").mean(at::kDouble).item<double>(), line.loss, 4 * 1.2e-7 * line.loss);
    ++files;
  }
  EXPECT_EQ(files, 4 * 2 * 2);
  const SafetensorsFile data(small.data("red") / "test.safetensors");
  EXPECT_TRUE(at::equal(SafetensorsFile(file_of(small, "base")).get("target"), data.get("target")));
}

TEST(Predictions, ThatAreThereAreNotMadeAgainAndMissingOnesAre) {
  SmallRun small;
  edit_rows(small);
  small.edit("evaluate: {", "evaluate: {predictions: true, ");
  ASSERT_EQ(small.call("run").code, 0);
  const auto first = read_file(file_of(small, "average"));
  const auto written = std::filesystem::last_write_time(file_of(small, "average"));
  EXPECT_THAT(small.call("run").error, HasSubstr("evaluate average test: finished before"));
  EXPECT_EQ(std::filesystem::last_write_time(file_of(small, "average")), written);
  std::filesystem::remove(file_of(small, "average"));
  EXPECT_THAT(small.call("run").error, AllOf(Not(HasSubstr("evaluate average test: finished before")),
                                             HasSubstr("evaluate expert test: finished before")));
  EXPECT_EQ(read_file(file_of(small, "average")), first);
}

TEST(Predictions, OfAModelThatHasChangedGoAwayWithItsScores) {
  SmallRun small;
  edit_rows(small);
  ASSERT_EQ(small.call("evaluate", {"--predictions"}).code, 0);
  ASSERT_EQ(small.call("evaluate", {"--set", "merge.task_arithmetic.scale=0.2"}).code, 0);
  EXPECT_FALSE(std::filesystem::exists(file_of(small, "task_arithmetic")));
  EXPECT_TRUE(std::filesystem::exists(file_of(small, "average")));
}

TEST(Predictions, GiveTheReportIntervalsOfTheDifferences) {
  SmallRun small;
  edit_rows(small);
  ASSERT_EQ(small.call("run").code, 0);
  EXPECT_THAT(read_file(small.run() / "report.html"), Not(HasSubstr("95 % interval")));
  ASSERT_EQ(small.call("run", {"--set", "evaluate.predictions=true"}).code, 0);
  EXPECT_THAT(read_file(small.run() / "report.html"),
              AllOf(HasSubstr("<b>Above average</b> · test"), HasSubstr("95 % interval")));
  ASSERT_EQ(small.call("run", {"--set", "evaluate.predictions=true", "--set", "report.reference=task_arithmetic"}).code,
            0);
  EXPECT_THAT(read_file(small.run() / "report.html"), HasSubstr("<b>Above task_arithmetic</b>"));
}

TEST(Predictions, OfADrawnPartOfASplitAreTheSameExamplesForEveryRow) {
  const SmallRun run;
  const std::vector<std::string> part = {
      "--set", "evaluate.examples=7", "--set", "evaluate.splits=[val]", "--predictions", "--quiet"};
  ASSERT_EQ(run.call("evaluate", part).code, 0);
  const auto lines = read_scores(run.run() / "scores.jsonl");
  ASSERT_FALSE(lines.empty());
  at::Tensor targets;
  for (const auto& line : lines) {
    EXPECT_EQ(line.count, 7) << line.method << " " << line.task;
    if (line.task != lines.front().task) continue;
    const SafetensorsFile file(run.run() / "predictions" / line.method / (line.task + ".val.safetensors"));
    if (!targets.defined()) targets = file.get("target").clone();
    EXPECT_TRUE(at::equal(file.get("target"), targets)) << line.method;
  }
  // Asking for all of it is other work.
  ASSERT_EQ(run.call("evaluate", {"--set", "evaluate.splits=[val]", "--quiet"}).code, 0);
  EXPECT_GT(read_scores(run.run() / "scores.jsonl").front().count, 7);
}

}  // namespace
}  // namespace amalgam
