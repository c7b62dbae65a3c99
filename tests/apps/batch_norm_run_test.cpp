// Rows whose batch norms are estimated anew after the merge.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"

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

TEST(BatchNormRun, SaysThatThereAreNone) {
  SmallRun small;
  small.edit("  - fisher\n", "  - {method: average, name: reset, reset_batch_norms: 100}\n");
  const auto result = small.call("run");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("merge.reset.reset_batch_norms: the base has no buffers, so no batch norms"));
}

}  // namespace
}  // namespace amalgam
