// The recipes of configs/: all are read, and those of the suites run in a small form where their data are.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "apps/recipe.h"
#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;

const fs::path kConfigs = AMALGAM_SOURCE_DIR "/configs";

TEST(Suites, HaveRecipesThatAreRead) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kConfigs)) {
    if (entry.path().extension() != ".yaml") continue;
    const Recipe recipe = read_recipe(entry.path(), {});
    EXPECT_EQ(recipe.name, entry.path().stem().string());
    ++count;
  }
  EXPECT_GE(count, 8);
}

/// The recipe with another folder of data in it.
void write_recipe(const fs::path& path, const std::string& name, const std::string& from, const std::string& to) {
  std::string text = read_file(kConfigs / name);
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  write_file(path, text);
}

TEST(Suites, RunImages8InASmallForm) {
  const fs::path data = AMALGAM_SOURCE_DIR "/../shared/data/images";
  if (!fs::exists(data)) GTEST_SKIP() << data << " is not there";
  const TemporaryFolder folder;
  write_recipe(folder / "images8.yaml", "images8.yaml", "suites/images8/data", data.string());
  std::vector<std::string> arguments = {
      "run", (folder / "images8.yaml").string(), "--runs", folder.path().string(), "--quiet", "--device", "cpu"};
  for (const auto* set : {"base.train.options={width: 16, depth: 2, heads: 2, patch: 7}", "base.train.steps=30",
                          "base.train.evaluate_every=30", "statistics.examples=32", "evaluate.examples=50",
                          "merge=[average, regmean, mats]"})
    arguments.insert(arguments.end(), {"--set", set});
  const Recipe recipe = read_recipe(kConfigs / "images8.yaml", {});
  for (const auto& task : recipe.tasks)
    for (const auto& set : {"data." + task.name + ".max_examples=200", "tasks." + task.name + ".expert.train.steps=3",
                            "tasks." + task.name + ".expert.train.evaluate_every=3"})
      arguments.insert(arguments.end(), {"--set", set});
  const auto result = call_command(arguments);
  ASSERT_EQ(result.code, 0) << result.error;
  std::vector<std::string> tasks;
  for (const auto& task : recipe.tasks) tasks.push_back(task.name);
  const auto rows = summarise(read_scores(folder / "images8/scores.jsonl"), tasks, "test");
  EXPECT_EQ(rows.size(), 5U);
  for (const auto& row : rows) EXPECT_TRUE(row.mean_value.has_value()) << row.method;
}

}  // namespace
}  // namespace amalgam
