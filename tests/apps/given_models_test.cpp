// A whole run over models that were given: inputs by keyword, outputs in a dict, tasks of different losses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

at::Tensor numbers(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, RandomStream(seed, "numbers").generator());
}

/// Reads tokens where the mask is 1 and gives three values a token beside what they are made of.
/// @param values  how they are made: source
void save_model(const std::filesystem::path& path, uint64_t seed,
                const std::string& values = "torch.linear(h, self.head.weight)") {
  script_model({{"words.weight", numbers({9, 4}, 1)},
                {"inner.weight", numbers({4, 4}, 2) + 0.1 * numbers({4, 4}, seed)},
                {"head.weight", numbers({3, 4}, 3)}},
               R"(
def forward(self, tokens, *, attention_mask) -> Dict[str, Tensor]:
    h = torch.embedding(self.words.weight, tokens) * attention_mask.unsqueeze(2)
    h = torch.tanh(torch.linear(h, self.inner.weight))
    return {'hidden': h, 'logits': )" +
                   values + "}\n")
      ->save(path);
}

void write_data(const std::filesystem::path& folder, bool values) {
  for (const std::string split : {"train", "val", "test"}) {
    const at::Tensor tokens = at::arange(40 * 5).mul(7).remainder(9).view({40, 5});
    const at::Tensor mask = at::arange(5).unsqueeze(0).lt(at::arange(40).remainder(4).add(2).unsqueeze(1));
    at::Tensor target = tokens.mul(5).remainder(3).masked_fill(mask.logical_not(), -100);
    if (values) target = numbers({40, 5, 3}, 9);
    write_safetensors(folder / (split + ".safetensors"),
                      {{"input.tokens", tokens}, {"input.attention_mask", mask.to(at::kLong)}, {"target", target}});
  }
}

constexpr const char* kRecipe = R"(name: given
output: logits
base: {{model: {0}/base.pt}}
tasks:
  - name: words
    data: {{format: tensors, root: {0}/words}}
    loss: {{label_smoothing: 0.1, targets: mean}}
    expert: {{model: {0}/words.pt}}
  - name: shades
    data: {{format: tensors, root: {0}/shades}}
    loss: mean_squared_error
    metric: r_squared
    expert: {{model: {0}/shades.pt}}
statistics: {{labels: exact}}
merge: [average, mats]
)";

class GivenModels : public testing::Test {
 protected:
  GivenModels() {
    save_model(path("base.pt"), 10);
    save_model(path("words.pt"), 11);
    save_model(path("shades.pt"), 12);
    write_data(path("words"), false);
    write_data(path("shades"), true);
    write_file(path("r.yaml"), fmt::format(kRecipe, folder_.path().string()));
  }

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }
  CommandResult run() const {
    return call_command({"run", path("r.yaml").string(), "--runs", path("runs").string(), "--device", "cpu"});
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(GivenModels, AreMergedWithTheirKeywordsAndDictsByStatisticsOfDifferentLosses) {
  const auto result = run();
  ASSERT_EQ(result.code, 0) << result.error;

  int64_t scored = 0;
  for (const ScoreLine& line : read_scores(path("runs/given/scores.jsonl"))) {
    EXPECT_EQ(line.metric, line.task == "words" ? "accuracy" : "r_squared");
    EXPECT_EQ(line.normalised.has_value(), line.task == "words") << line.method;
    EXPECT_EQ(line.count, line.task == "words" ? 140 : 600);
    ++scored;
  }
  EXPECT_EQ(scored, 2 * 2 * 4);
  const SafetensorsFile statistics(path("runs/given/statistics/words.safetensors"));
  EXPECT_EQ(statistics.get("head/rows").item<int64_t>(), 140);
  auto merged = torch::jit::load(path("runs/given/merged/mats.pt").string());
  const auto returned =
      merged.forward({at::ones({1, 2}, at::kLong)}, {{"attention_mask", at::ones({1, 2}, at::kLong)}});
  EXPECT_EQ(returned.toGenericDict().at("hidden").toTensor().size(2), 4);
  EXPECT_THAT(read_file(path("runs/given/report.html")), HasSubstr("shades"));
}

TEST_F(GivenModels, ThatLackATasksOutputAreRefusedBeforeAnyWork) {
  const auto recipe = read_file(path("r.yaml"));
  for (const std::string task : {"words", "shades"}) {  // the second has no model of its own, but the base's
    auto text = recipe;
    text.replace(text.find("    data: {format: tensors, root: " + path(task).string()), 0, "    output: logit\n");
    const auto own = "expert: {model: " + path("shades.pt").string() + "}";
    if (task == "shades") text.replace(text.find(own), own.size(), "expert: {train: {batch: 8}}");
    write_file(path("r.yaml"), text);
    const auto result = run();
    EXPECT_EQ(result.code, 2) << task;
    EXPECT_THAT(result.error, AllOf(HasSubstr("tasks." + task), HasSubstr("there is no 'logit'"))) << task;
    EXPECT_FALSE(std::filesystem::exists(path("runs/given/scores.jsonl")));
  }
}

TEST_F(GivenModels, WhoseCodeChangedAreCollectedMergedAndScoredAnew) {
  ASSERT_EQ(run().code, 0);
  const auto collected = [&] {
    return SafetensorsFile(path("runs/given/statistics/words.safetensors")).get("inner/output_gram").clone();
  };
  const at::Tensor before = collected();
  save_model(path("words.pt"), 11, "torch.linear(h, self.head.weight) * 2");  // the same tensors
  const auto result = run();
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_FALSE(at::allclose(collected(), before));
  EXPECT_THAT(result.error, HasSubstr("collect shades: finished before, unchanged"));
  for (const char* step : {"collect words", "merge average", "merge mats", "evaluate base test", "evaluate mats test"})
    EXPECT_THAT(result.error, Not(HasSubstr(std::string(step) + ": finished before"))) << step;
  EXPECT_THAT(run().error, HasSubstr("merge mats: finished before, unchanged"));
}

}  // namespace
}  // namespace amalgam
