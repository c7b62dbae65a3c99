// Whole runs that need more of the gradients than their squares by task: those of the base, and dense ones of vectors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

using testing::HasSubstr;
using testing::Not;

/// The recipe that `amalgam collect` makes the statistics of a base by: its only task has the base as its expert.
constexpr const char* kGround = R"(name: ground
seed: 1
base: {{model: {0}}}
tasks:
  - name: ground
    data: {{format: tensors, root: {1}}}
    expert: {{model: {0}}}
statistics: {{kinds: [squared_gradient], examples: {2}}}
merge: [average]
)";

class BaseStatistics : public testing::Test {
 protected:
  /// A run of a single row whose models are there, without statistics of the base yet.
  BaseStatistics() {
    const auto text = read_file(small_.recipe());
    const auto begin = text.find("merge:"), end = text.find("evaluate:");
    small_.edit(text.substr(begin, end - begin), "merge: [gradient_matching, fisher]\n");
    EXPECT_EQ(small_.call("finetune").code, 0);
  }
  /// Statistics of a model on the base's data.
  std::filesystem::path collect(const std::filesystem::path& model, int examples) {
    const auto recipe = small_.folder() / "ground.yaml";
    write_file(recipe, fmt::format(kGround, model.string(), small_.data("plain").string(), examples));
    const auto result =
        call_command({"collect", recipe.string(), "--runs", (small_.folder() / "runs").string(), "--device", "cpu"});
    EXPECT_EQ(result.code, 0) << result.error;
    return small_.folder() / "runs" / "ground" / "statistics" / "ground.safetensors";
  }
  std::vector<std::string> with(const std::filesystem::path& file) const {
    return {"--set", "base.statistics=" + file.string()};
  }
  std::string merged() const { return read_file(small_.run() / "merged" / "gradient_matching.safetensors"); }

  SmallRun small_;
};

TEST_F(BaseStatistics, EnterGradientMatchingAndNoOtherRow) {
  ASSERT_EQ(small_.call("merge").code, 0);
  const std::string without = merged();
  const auto file = collect(small_.run() / "base.pt", 100);
  const auto result = small_.call("merge", with(file));
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_NE(merged(), without);
  const auto recorded = [&](const std::string& row) {
    const auto record = nlohmann::json::parse(read_file(small_.run() / "merged" / (row + ".merge.json")));
    return record.at("base_statistics").get<std::string>();
  };
  EXPECT_EQ(recorded("gradient_matching"), digest_of_file(file));
  EXPECT_EQ(recorded("fisher"), "");
}

TEST_F(BaseStatistics, OfOtherExamplesMergeAnew) {
  ASSERT_EQ(small_.call("merge", with(collect(small_.run() / "base.pt", 100))).code, 0);
  const std::string first = merged();
  ASSERT_EQ(small_.call("merge", with(collect(small_.run() / "base.pt", 200))).code, 0);
  EXPECT_NE(merged(), first);
}

TEST_F(BaseStatistics, EnterDonorsRows) {
  small_.edit("evaluate: {batch: 64}", "donors: [{method: gradient_matching, weights: [0.5]}]\nevaluate: {batch: 64}");
  ASSERT_EQ(small_.call("run").code, 0);
  const std::string same = "donor gradient_matching red blue: finished before, unchanged";
  EXPECT_THAT(small_.call("run").error, HasSubstr(same));
  const auto result = small_.call("run", with(collect(small_.run() / "base.pt", 100)));
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.error, Not(HasSubstr(same)));
}

TEST_F(BaseStatistics, OfAnotherModelAreRefused) {
  const auto file = collect(small_.run() / "experts" / "red.pt", 50);
  const auto result = small_.call("merge", with(file));
  EXPECT_NE(result.code, 0);
  EXPECT_THAT(result.error, HasSubstr("base.statistics: they belong to another model"));
}

TEST_F(BaseStatistics, OfAGivenBaseAreRefusedBeforeAnyWork) {
  const auto file = collect(small_.run() / "experts" / "red.pt", 50);
  const auto base = (small_.folder() / "given.pt").string();
  std::filesystem::copy_file(small_.run() / "base.pt", base);
  auto arguments = with(file);
  arguments.insert(arguments.end(), {"--set", "base.model=" + base, "--set", "name=given"});
  const auto result = small_.call("merge", arguments);
  EXPECT_EQ(result.code, 2) << result.error;
  EXPECT_THAT(result.error, HasSubstr("base.statistics: they belong to another model"));
}

at::Tensor numbers(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, RandomStream(seed, "numbers").generator());
}

/// An adapter as (IA)³ has it: a frozen layer, and a vector that its outputs are multiplied by.
void save_adapter(const std::filesystem::path& path, uint64_t seed) {
  script_model({{"inner.weight", numbers({6, 4}, 1)},
                {"adapter", numbers({6}, 2) + 0.2 * numbers({6}, seed)},
                {"head.weight", numbers({3, 6}, 3)}},
               R"(
def forward(self, x):
    return torch.linear(torch.tanh(torch.linear(x, self.inner.weight) * self.adapter), self.head.weight)
)")
      ->save(path);
}

TEST(DenseVectors, OfAnAdapterAreCollectedMergedAndReported) {
  const TemporaryFolder folder;
  for (const std::string name : {"base", "left", "right"}) save_adapter(folder / (name + ".pt"), name.size() * 7);
  for (const std::string task : {"left", "right"})
    for (const std::string split : {"train", "val", "test"})
      write_safetensors(
          folder / task / (split + ".safetensors"),
          {{"input.0", numbers({60, 4}, task.size() + split.size())}, {"target", at::arange(60).mul(7).remainder(3)}});
  write_file(folder / "ia3.yaml", fmt::format(R"(name: ia3
base: {{model: {0}/base.pt}}
tasks:
  - {{name: left, data: {{format: tensors, root: {0}/left}}, expert: {{model: {0}/left.pt}}}}
  - {{name: right, data: {{format: tensors, root: {0}/right}}, expert: {{model: {0}/right.pt}}}}
statistics: {{examples: 60}}
merge:
  - {{method: mats, vectors: dense}}
)",
                                              folder.path().string()));
  const auto call = [&](const std::string& command) {
    return call_command(
        {command, (folder / "ia3.yaml").string(), "--runs", (folder / "runs").string(), "--device", "cpu"});
  };
  const auto result = call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  const auto run = folder / "runs" / "ia3";
  const auto record = nlohmann::json::parse(read_file(run / "merged" / "mats.merge.json"));
  EXPECT_TRUE(record.at("report").at("fallbacks").empty());
  bool reported = false;
  for (const auto& layer : record.at("report").at("layers"))
    reported = reported || (layer.at("layer") == "adapter" && layer.at("solver") == "dense Fisher");
  EXPECT_TRUE(reported) << record.at("report").dump(1);
  EXPECT_THAT(read_file(run / "report.html"), HasSubstr("dense Fisher"));
  const auto statistics = (run / "statistics" / "left.safetensors").string();
  EXPECT_THAT(call_command({"stats", "info", statistics}).out, HasSubstr("gradient_gram"));
  EXPECT_THAT(call_command({"inspect", statistics}).out, HasSubstr("gradient_gram"));
  EXPECT_EQ(call_command({"stats", "verify", statistics}).code, 0);
}

}  // namespace
}  // namespace amalgam
