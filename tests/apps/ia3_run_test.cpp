// (IA)³: vectors that are trained alone, seen as scale layers, and merged by their dense Fisher information.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/layer_table.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "stats/statistics.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

constexpr const char* kVector = "body.ia3_l";

/// A given base whose hidden units are scaled by a vector of ones; the experts train that and their heads.
void give_base_with_vectors(const SmallRun& small) {
  auto generator = RandomStream(3, "weights").generator();
  script_model({{"body.weight", 0.1 * at::randn({16, 108}, generator)},
                {"body.ia3_l", at::ones({16})},
                {"head.weight", 0.1 * at::randn({3, 16}, generator)}},
               R"(
def forward(self, x):
    h = torch.relu(torch.linear(torch.flatten(x, 1), self.body.weight)) * self.body.ia3_l
    return torch.linear(h, self.head.weight)
)")
      ->save(small.folder() / "base.pt");
  std::string text = fmt::format("name: small\nseed: 1\nprivate: [\"head.*\"]\nbase: {{model: {}/base.pt}}\ntasks:\n",
                                 small.folder().path().string());
  for (const char* task : {"red", "blue"})
    text += fmt::format(
        "  - {{name: {1}, data: {{format: tensors, root: {0}/{1}}}, expert: {{train: {{trainable: "
        "[\"*.ia3_l\"], heads: {{steps: 20}}, steps: 40, batch: 32, rate: 1e-2}}}}}}\n",
        small.folder().path().string(), task);
  write_file(small.recipe(), text +
                                 "statistics: {examples: 100}\nmerge: [{method: mats, vectors: dense, normalise: none, "
                                 "off_diagonal: 1, damping: 0}]\n");
}

TEST(Ia3Run, TrainsVectorsAloneAndMergesThemByTheirDenseFisher) {
  const SmallRun small;
  give_base_with_vectors(small);
  const auto result = small.call("merge");
  ASSERT_EQ(result.code, 0) << result.error;
  at::Tensor fisher = at::zeros({16, 16}, at::kDouble), weighted = at::zeros({16}, at::kDouble);
  const auto written = [&](const std::string& folder) {
    const SafetensorsFile file(small.run() / (folder + ".adapter/adapter_model.safetensors"));
    EXPECT_EQ(file.infos().size(), 1U);
    return file.get("base_model.model.body.ia3_l").flatten();
  };
  const SafetensorsFile base(small.run() / "tensors/base.safetensors"), merged(small.run() / "merged/mats.safetensors");
  for (const std::string task : {"red", "blue"}) {
    const SafetensorsFile expert(small.run() / "tensors" / (task + ".safetensors"));
    EXPECT_TRUE(at::equal(expert.get("body.weight"), base.get("body.weight")));
    EXPECT_FALSE(at::equal(expert.get(kVector), base.get(kVector)));
    EXPECT_TRUE(at::equal(expert.get(kVector), written("experts/" + task)));
    const Statistics statistics = Statistics::load(small.run() / "statistics" / (task + ".safetensors"));
    const Layer* layer = statistics.header().layers.find(kVector);
    ASSERT_NE(layer, nullptr);
    EXPECT_EQ(layer->kind, LayerKind::kScale);
    const at::Tensor own = statistics.sums().get(std::string(kVector) + "/gradient_gram").to(at::kDouble) / 100;
    fisher += own;
    weighted += own.mv(expert.get(kVector).to(at::kDouble));
  }
  EXPECT_TRUE(at::equal(merged.get(kVector), written("merged/mats")));
  // The merged vector solves Σ F_m θ = Σ F_m θ_m, to the rounding of the float32 that it is kept in.
  const at::Tensor residual = fisher.mv(merged.get(kVector).to(at::kDouble)) - weighted;
  EXPECT_LT(residual.norm().item<double>(), 1e-5 * weighted.norm().item<double>());
  const at::Tensor base_residual = fisher.mv(base.get(kVector).to(at::kDouble)) - weighted;
  EXPECT_GT(base_residual.norm().item<double>(), 1e-3 * weighted.norm().item<double>());
}

}  // namespace
}  // namespace amalgam
