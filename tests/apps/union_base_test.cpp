// A base that is trained on several tasks at once, whose experts begin with their rows of its head.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/scores.h"
#include "apps/small_run.h"
#include "models/runner.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

/// Red and blue by name, the base trained on both, the heads left as the base has them.
void edit_for_union(SmallRun& small) {
  const auto root = small.folder().path().string();
  small.edit("seed: 1", "seed: 1\ndata:\n  red: {format: tensors, root: " + root +
                            "/red}\n  blue: {format: tensors, root: " + root + "/blue}\nprivate: [\"head.*\"]");
  small.edit("{format: tensors, root: " + root + "/plain}", "[red, blue]");
  for (const auto* task : {"red", "blue"}) {
    small.edit("    data: {format: tensors, root: " + root + "/" + task + "}", std::string("    data: ") + task);
    small.edit("expert: {train: {steps: 30", "expert: {train: {trainable: [\"body.*\"], steps: 20");
  }
}

TEST(UnionBase, GivesEachExpertItsRowsOfTheHead) {
  SmallRun small;
  edit_for_union(small);
  const auto result = small.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  const auto base = open_model(small.run() / "base.pt", at::kCPU)->parameters();
  ASSERT_EQ(base.at("head.weight").size(0), 6);
  int64_t first = 0;
  for (const auto* task : {"red", "blue"}) {
    const auto expert = open_model(small.run() / "experts" / (std::string(task) + ".pt"), at::kCPU)->parameters();
    for (const auto* name : {"head.weight", "head.bias"})
      EXPECT_TRUE(at::equal(expert.at(name), base.at(name).narrow(0, first, 3))) << task << " " << name;
    EXPECT_FALSE(at::equal(expert.at("body.layers.0.weight"), base.at("body.layers.0.weight"))) << task;
    first += 3;
  }
  int64_t scored = 0;
  for (const auto& line : read_scores(small.run() / "scores.jsonl")) {
    if (line.method != "base" || line.split != "test") continue;
    EXPECT_GT(line.value, 0.6) << line.task;  // by chance 1/3
    ++scored;
  }
  EXPECT_EQ(scored, 2);
}

TEST(UnionBase, NeedsPrivateHeads) {
  SmallRun small;
  edit_for_union(small);
  small.edit("private: [\"head.*\"]", "");
  const auto result = small.call("run");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("name it under `private`"));
}

TEST(UnionBase, RefusesAListOfOne) {
  SmallRun small;
  edit_for_union(small);
  small.edit("[red, blue]", "[red]");
  const auto result = small.call("run");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("base.train.data: a list is for the union of several"));
}

}  // namespace
}  // namespace amalgam
