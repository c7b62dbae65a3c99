// The quickstart's own recipe, smaller: fewer steps, val only. Three seeds, some minutes.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apps/command.h"
#include "apps/scores.h"
#include "apps/small_run.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

const std::vector<std::string> kTasks = {"left", "right", "blurred", "noisy", "dim"};

/// Mean normalised score on val by row.
std::map<std::string, double> smaller_quickstart(const TemporaryFolder& folder, int seed) {
  const auto name = "seed" + std::to_string(seed);
  std::vector<std::string> arguments = {"evaluate",
                                        AMALGAM_SOURCE_DIR "/configs/quickstart.yaml",
                                        "--runs",
                                        folder.path().string(),
                                        "--quiet",
                                        "--device",
                                        "cpu",
                                        "--split",
                                        "val",
                                        "--seed",
                                        std::to_string(seed),
                                        "--set",
                                        "name=" + name,
                                        "--set",
                                        "base.train.steps=600",
                                        "--set",
                                        "merge=[average, regmean, mats]"};
  for (const auto& task : kTasks) {
    arguments.push_back("--set");
    arguments.push_back("tasks." + task + ".expert.train.steps=150");
  }
  const auto result = call_command(arguments);
  EXPECT_EQ(result.code, 0) << result.error;
  std::map<std::string, double> means;
  for (const auto& row : summarise(read_scores(folder / (name + "/scores.jsonl")), kTasks, "val"))
    means[row.method] = row.mean_normalised.value_or(0);
  return means;
}

TEST(Quickstart, MatsAndRegMeanBeatTheAverageByTwoPoints) {
  if (!std::filesystem::exists("/usr/share/datasets/fashion-mnist"))
    GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const TemporaryFolder folder;
  std::map<std::string, double> mean;
  const int seeds = 3;
  for (int seed = 0; seed < seeds; ++seed)
    for (const auto& [row, value] : smaller_quickstart(folder, seed)) mean[row] += value / seeds;
  ASSERT_EQ(mean.size(), 5U);
  RecordProperty("average", std::to_string(mean["average"]));
  EXPECT_GT(mean["regmean"], mean["average"] + 0.02);
  EXPECT_GT(mean["mats"], mean["average"] + 0.02);
  EXPECT_GT(mean["average"], 0.5);
}

}  // namespace
}  // namespace amalgam
