// Experts that are adapters, from the recipe to the merged adapter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/low_rank.h"
#include "core/safetensors.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kWeight = "body.layers.0.weight";
constexpr const char* kPeftName = "base_model.model.body.layers.0.lora_";

/// Every expert is an adapter of rank 2 of the hidden layer; its head is private.
void edit_for_adapters(SmallRun& small) {
  small.edit("tasks:", "private: [\"head.*\"]\ntasks:");
  for (int task = 0; task < 2; ++task)
    small.edit("expert: {train: {steps: 30",
               "expert: {train: {adapter: {kind: lora, rank: 2, alpha: 4, targets: [\"body.layers.*.weight\"]}, steps: "
               "40");
  small.edit("  - fisher\n", "  - lora_average\n  - lora_lego\n");
}

at::Tensor weight_in(const std::filesystem::path& file) { return SafetensorsFile(file).get(kWeight); }

/// B A of a folder of PEFT, without its scale.
at::Tensor product_in(const std::filesystem::path& folder) {
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  return file.get(std::string(kPeftName) + "B.weight").mm(file.get(std::string(kPeftName) + "A.weight"));
}

void expect_near(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_LT((a - b).norm().item<double>(), 2e-6 * b.norm().item<double>());
}

TEST(AdapterRun, TrainsExpertsThatAreTheBaseAndAnAdapter) {
  SmallRun small;
  edit_for_adapters(small);
  const auto result = small.call("finetune");
  ASSERT_EQ(result.code, 0) << result.error;
  const at::Tensor base = weight_in(small.run() / "tensors/base.safetensors");
  for (const std::string task : {"red", "blue"}) {
    const auto tensors = small.run() / "tensors" / (task + ".safetensors");
    const at::Tensor change = 2 * product_in(small.run() / "experts" / (task + ".adapter"));  // alpha / rank
    EXPECT_GT(change.norm().item<double>(), 0.01 * base.norm().item<double>());
    expect_near(weight_in(tensors), base + change);
    EXPECT_TRUE(at::equal(SafetensorsFile(tensors).get("body.layers.0.bias"),
                          SafetensorsFile(small.run() / "tensors/base.safetensors").get("body.layers.0.bias")));
    EXPECT_FALSE(at::equal(SafetensorsFile(tensors).get("head.weight"),
                           SafetensorsFile(small.run() / "tensors/base.safetensors").get("head.weight")));
  }
}

TEST(AdapterRun, WritesEachMergeAsAnAdapterAndAsWeights) {
  SmallRun small;
  edit_for_adapters(small);
  const auto result = small.call("merge", {"--set", "adapter_rank=4"});
  ASSERT_EQ(result.code, 0) << result.error;
  const at::Tensor base = weight_in(small.run() / "tensors/base.safetensors");
  for (const std::string row : {"average", "regmean", "mats", "lora_average", "lora_lego"}) {
    const at::Tensor merged = weight_in(small.run() / "merged" / (row + ".safetensors"));
    // Two changes of rank 2: a mean of them has rank 4 at most. (RegMean's and MaTS' have any.)
    const double lost = json::parse(read_file(small.run() / "merged" / (row + ".merge.json")))
                            .at("adapter")
                            .at("relative_error")
                            .get<double>();
    const at::Tensor change = product_in(small.run() / "merged" / (row + ".adapter"));
    const double actual = ((merged - base - change).norm() / (merged - base).norm()).item<double>();
    EXPECT_NEAR(lost, actual, 1e-4) << row;
    if (row == "average" || row.starts_with("lora")) {
      EXPECT_LT(lost, 1e-4) << row;
    }
    EXPECT_THAT(result.error, HasSubstr("merge " + row + ": as an adapter of rank 4"));
  }
}

TEST(AdapterRun, TruncatesToTheExpertsRankUnlessToldOtherwise) {
  SmallRun small;
  edit_for_adapters(small);
  ASSERT_EQ(small.call("merge", {"--method", "average"}).code, 0);
  const auto about = json::parse(read_file(small.run() / "merged/average.merge.json")).at("adapter");
  EXPECT_EQ(about.at("rank"), 2);
  EXPECT_GT(about.at("relative_error"), 1e-3);
  const auto config = json::parse(read_file(small.run() / "merged/average.adapter/adapter_config.json"));
  EXPECT_EQ(config.at("r"), 2);
  EXPECT_EQ(config.at("lora_alpha"), 2);
  const auto again = small.call("merge", {"--method", "average", "--set", "adapter_rank=1"});
  ASSERT_EQ(again.code, 0) << again.error;
  EXPECT_THAT(again.error, Not(HasSubstr("merge average: finished before")));
  const auto told = json::parse(read_file(small.run() / "merged/average.merge.json")).at("adapter");
  EXPECT_EQ(told.at("rank"), 1);
  EXPECT_GT(told.at("relative_error").get<double>(), about.at("relative_error").get<double>());
  EXPECT_EQ(json::parse(read_file(small.run() / "merged/average.adapter/adapter_config.json")).at("r"), 1);
}

TEST(AdapterRun, TakesAdaptersOfPeftInThePlaceOfTraining) {
  SmallRun small;
  edit_for_adapters(small);
  ASSERT_EQ(small.call("finetune").code, 0);
  const auto given = small.folder() / "given";
  std::filesystem::copy(small.run() / "experts/red.adapter", given);
  const at::Tensor expected = weight_in(small.run() / "tensors/red.safetensors");
  const auto result = small.call("finetune", {"--set", "tasks.red.expert={adapter: " + given.string() + "}"});
  ASSERT_EQ(result.code, 0) << result.error;
  expect_near(weight_in(small.run() / "tensors/red.safetensors"), expected);
  EXPECT_TRUE(at::equal(SafetensorsFile(small.run() / "tensors/red.safetensors").get("head.weight"),
                        SafetensorsFile(small.run() / "tensors/base.safetensors").get("head.weight")));
  EXPECT_THAT(small.call("finetune", {"--set", "tasks.red.expert={adapter: " + given.string() + "}"}).error,
              HasSubstr("fold red: finished before"));
}

TEST(AdapterRun, FindsMistakesBeforeAnyWork) {
  SmallRun small;
  edit_for_adapters(small);
  const std::string targets = "tasks.red.expert.train.adapter.targets=";
  for (const auto& [change, part] : std::vector<std::pair<std::string, std::string>>{
           {targets + "[nothing]", "tasks.red.expert.train.adapter.targets"},
           {targets + "[body.layers.0.bias]", "two axes"},
           {targets + "[head.weight]", "private"},
           {"tasks.red.expert.train.adapter.rank=17", "rank: 17"},
           {"tasks.red.expert.train.adapter.kind=none", "merge.lora_average"},
           {"tasks.red.expert={adapter: nowhere}", "nowhere/adapter_config.json"},
           {"tasks.red.expert={adapter: nowhere, model: here.pt}", "not both"},
           {"base.train.adapter={kind: lora}", "base.train.adapter"}}) {
    const auto result = small.call("run", {"--set", change});
    EXPECT_EQ(result.code, 2) << change;
    EXPECT_THAT(result.error, HasSubstr(part));
  }
  EXPECT_FALSE(std::filesystem::exists(small.run() / "base.pt"));
}

TEST(AdapterRun, LeavesTheInputsOfStepsWithoutItAsTheyWere) {
  const SmallRun small;
  ASSERT_EQ(small.call("merge", {"--method", "average"}).code, 0);
  const auto trained = json::parse(read_file(small.run() / "steps/train-red.json")).at("inputs");
  EXPECT_THAT(trained.at("train").get<std::string>(), AllOf(Not(HasSubstr("adapter")), Not(HasSubstr("trainable"))));
  const auto merged = json::parse(read_file(small.run() / "steps/merge-average.json")).at("inputs");
  EXPECT_THAT(merged.dump(), Not(HasSubstr("adapter")));
}

}  // namespace
}  // namespace amalgam
