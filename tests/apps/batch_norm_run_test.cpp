// Rows whose batch norms are estimated anew after the merge.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/run_folder.h"
#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "models/runner.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

TEST(BatchNormRun, ReplacesTheMeansAndVariancesOfARow) {
  SmallRun small;
  small.edit("architecture: mlp, options: {hidden: [16]}",
             "architecture: convolutional, options: {channels: [6], norm: batch}");
  small.edit("  - fisher\n", "  - {method: average, name: reset, reset_batch_norms: 100}\n");
  small.edit("  - regmean\n  - mats\n", "");
  small.edit("search: {scale: [0.3, 0.5]}", "search: {scale: [0.3, 0.5]}, reset_batch_norms: 50");
  const auto result = small.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  const auto tensor = [&](const std::string& row, const std::string& name) {
    return SafetensorsFile(small.run() / "merged" / (row + ".safetensors")).get(name).clone();
  };
  for (const auto* name : {"running_mean", "running_var"}) {
    const std::string buffer = std::string("body.stages.0.norm.") + name;
    EXPECT_FALSE(at::equal(tensor("reset", buffer), tensor("average", buffer)));
    EXPECT_FALSE(at::equal(tensor("task_arithmetic", buffer), tensor("average", buffer)));
  }
  const std::string weight = "body.stages.0.convolution.weight";
  EXPECT_TRUE(at::equal(tensor("reset", weight), tensor("average", weight)));
  const auto record = nlohmann::json::parse(read_file(small.run() / "merged" / "reset.merge.json"));
  EXPECT_EQ(record.at("reset_batch_norms"), 100);
  const auto again = small.call("run", {"--set", "merge.reset.reset_batch_norms=20"});
  ASSERT_EQ(again.code, 0) << again.error;
  EXPECT_EQ(nlohmann::json::parse(read_file(small.run() / "merged" / "reset.merge.json")).at("reset_batch_norms"), 20);
}

TEST(BatchNormRun, DrawsTheExamplesByTheRecipesSeedWhateverTheRows) {
  SmallRun small;
  small.edit("architecture: mlp, options: {hidden: [16]}",
             "architecture: convolutional, options: {channels: [6], norm: batch}");
  ASSERT_EQ(small.call("finetune").code, 0);
  const RunFolder made(small.run());
  std::string text = fmt::format("name: given\nbase: {{model: {}}}\ntasks:\n", made.base().string());
  for (const std::string task : {"red", "blue"})
    text += fmt::format("  - {{name: {}, data: {{format: tensors, root: {}}}, expert: {{model: {}}}}}\n", task,
                        small.data(task).string(), made.expert(task).string());
  const auto recipe = small.folder() / "given.yaml";
  write_file(recipe, text + "merge: [{method: average, seed: 3, reset_batch_norms: 100}]\n");
  const auto mean_with = [&](const std::string& seed) {
    const auto result = call_command({"merge", recipe.string(), "--runs", (small.folder() / "runs").string(),
                                      "--device", "cpu", "--set", "seed=" + seed});
    EXPECT_EQ(result.code, 0) << result.error;
    const SafetensorsFile file(RunFolder(small.folder() / "runs/given").merged("average", ".safetensors"));
    return file.get("body.stages.0.norm.running_mean").clone();
  };
  const at::Tensor first = mean_with("1"), other = mean_with("2");
  EXPECT_FALSE(at::equal(first, other));
  EXPECT_TRUE(at::equal(first, mean_with("1")));
}

/// Of what the file of a row predicts of a task's val.
double entropy_on_val(const SmallRun& small, const std::string& row, const std::string& task) {
  const auto model = open_model(small.run() / "merged" / (row + ".pt"), at::kCPU);
  const SafetensorsFile val(small.data(task) / "val.safetensors");
  Batch batch;
  batch.inputs = {val.get("input.0").clone()};
  batch.count = 120;
  const at::Tensor log_p = at::log_softmax(model->forward(batch).to(at::kDouble), 1);
  return -(log_p.exp() * log_p).sum(1).mean().item<double>();
}

TEST(BatchNormRun, SearchesLookAtModelsWithTheirOwnMeansAndVariances) {
  SmallRun small;
  small.edit("architecture: mlp, options: {hidden: [16]}",
             "architecture: convolutional, options: {channels: [6], norm: batch}");
  // At a rate of 0 what is searched is what is written.
  small.edit("  - fisher\n",
             "  - {method: adamerging, steps: 1, rate: 0, batch: 120, reset_batch_norms: 100}\n"
             "  - {method: adamerging, name: averaged, steps: 1, rate: 0, batch: 120}\n"
             "  - {method: cma_es, evaluations: 12, step: 0.5, coefficients: model, reset_batch_norms: 100}\n");
  small.edit("  - regmean\n  - mats\n", "");
  const auto result = small.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  const auto values = [&](const std::string& row) {
    const auto record = nlohmann::json::parse(read_file(small.run() / "merged" / (row + ".merge.json")));
    return record.at("report").at("search").at("values").get<std::vector<double>>();
  };
  for (const std::string row : {"adamerging", "averaged"})
    EXPECT_NEAR(values(row)[0], (entropy_on_val(small, row, "red") + entropy_on_val(small, row, "blue")) / 2, 1e-6);
  EXPECT_GT(std::abs(values("adamerging")[0] - values("averaged")[0]), 1e-3);
  double mean = 0;
  for (const auto& line : read_scores(small.run() / "scores.jsonl"))
    if (line.method == "cma_es" && line.split == "val") mean += line.normalised.value() / 2;
  const auto tried = values("cma_es");
  EXPECT_NEAR(mean, *std::max_element(tried.begin(), tried.end()), 1e-12);
}

TEST(BatchNormRun, SaysThatThereAreNone) {
  SmallRun small;
  small.edit("  - fisher\n", "  - {method: average, name: reset, reset_batch_norms: 100}\n");
  const auto result = small.call("run");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("merge.reset.reset_batch_norms: the base has no buffers, so no batch norms"));
  small.edit("architecture: mlp, options: {hidden: [16]}",
             "architecture: convolutional, options: {channels: [6], norm: batch}");
  small.edit("seed: 1\n", "seed: 1\nprivate: [\"*.norm.*\", \"head.*\"]\n");
  const auto own = small.call("run");
  EXPECT_EQ(own.code, 2);
  EXPECT_THAT(own.error, HasSubstr("merge.reset.reset_batch_norms: the base has no buffers that the tasks share"));
}

}  // namespace
}  // namespace amalgam
