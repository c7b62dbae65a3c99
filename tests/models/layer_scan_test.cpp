#include "models/layer_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "models/architectures/architecture.h"
#include "models/torchscript_runner.h"
#include "temporary_folder.h"
#include "tests/models/python.h"
#include "tests/models/tap_model_zoo.h"

namespace amalgam {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ScanResult scan(const TapModel& model, Made made = Made::kScripted) {
  const auto runner = make_runner(model, made);
  return scan_layers(*runner, model.data, "cross_entropy");
}

/// A model of this source with weights "first.weight" and "second.weight" [4, 4] and "head.weight" [3, 4], and "scale"
/// [4]; its inputs are [8, T, 4].
ScanResult scan_source(const std::string& body, int64_t positions = 5) {
  TapModel model{"Source",
                 {{"first.weight", numbers({4, 4}, 1)},
                  {"second.weight", numbers({4, 4}, 2)},
                  {"head.weight", numbers({3, 4}, 3)},
                  {"scale", numbers({4}, 4)}},
                 {},
                 "def forward(self, x):\n" + body,
                 {},
                 make_batch({numbers({8, positions, 4}, 9)}, 3)};
  return scan(model);
}

std::vector<std::string> names_of(const LayerTable& table) {
  std::vector<std::string> names;
  for (const Layer& layer : table.layers) names.push_back(layer.name);
  return names;
}

TEST(ScanLayers, GivesOneTableForScriptedAndTracedModels) {
  for (const TapModel& model : tap_model_zoo()) {
    const ScanResult scripted = scan(model, Made::kScripted), traced = scan(model, Made::kTraced);
    EXPECT_EQ(to_json(scripted.layers), to_json(traced.layers)) << model.name;
    EXPECT_EQ(scripted.layouts, traced.layouts) << model.name;
    EXPECT_THAT(scripted.unobserved, IsEmpty()) << model.name;
    EXPECT_THAT(traced.unobserved, IsEmpty()) << model.name;
  }
}

TEST(ScanLayers, DescribesAConvolution) {
  const LayerTable table = scan(zoo_model("Convolution")).layers;
  ASSERT_THAT(names_of(table), ElementsAre("first", "same", "head"));
  const Layer& first = table.layers[0];
  EXPECT_EQ(first.kind, LayerKind::kConvolution);
  EXPECT_EQ(first.bias, "first.bias");
  EXPECT_EQ(first.out, 6);
  EXPECT_EQ(first.in, 2 * 3 * 2);
  EXPECT_EQ(first.groups, 2);
  EXPECT_THAT(first.kernel, ElementsAre(3, 2));
  EXPECT_THAT(first.stride, ElementsAre(2, 1));
  EXPECT_THAT(first.padding, ElementsAre(1, 2));
  EXPECT_THAT(first.dilation, ElementsAre(1, 2));
  EXPECT_THAT(table.layers[1].padding, ElementsAre(1, 1));
}

TEST(ScanLayers, TakesSlicesOfAPackedWeightForLayersThatShareTheirInput) {
  const LayerTable table = scan(zoo_model("Packed")).layers;
  ASSERT_THAT(names_of(table), ElementsAre("attention[0:4]", "attention[4:8]", "attention[8:12]", "head"));
  for (size_t i = 0; i < 3; ++i) {
    const Layer& layer = table.layers[i];
    EXPECT_EQ(layer.weight, "attention.weight");
    EXPECT_EQ(layer.bias, "attention.bias");
    EXPECT_EQ(layer.row_begin, static_cast<int64_t>(4 * i));
    EXPECT_EQ(layer.row_end, static_cast<int64_t>(4 * i + 4));
    EXPECT_EQ(layer.input_of, "attention[0:4]");
  }
  EXPECT_EQ(table.layers[3].input_of, "head");
}

TEST(ScanLayers, TellsHowAWeightIsStored) {
  const LayerTable table = scan(zoo_model("Transposed")).layers;
  ASSERT_THAT(names_of(table), ElementsAre("first[0:3]", "first[3:6]", "second", "third", "fourth", "fifth"));
  for (const Layer& layer : table.layers) EXPECT_EQ(layer.transposed, layer.name != "fourth") << layer.name;
  EXPECT_EQ(table.layers[1].input_of, "first[0:3]");
  EXPECT_EQ(table.layers[1].out, 3);
  EXPECT_EQ(table.layers[1].in, 4);
  EXPECT_EQ(table.layers[1].bias, "first.bias");
}

TEST(ScanLayers, FindsTheAxisOfTheExample) {
  using Order = ExampleLayout::Order;
  const ScanResult result = scan(zoo_model("Layouts"));
  ASSERT_THAT(names_of(result.layers), ElementsAre("inside", "second", "outside", "shift", "norm", "head"));
  EXPECT_EQ(result.layouts[0], (ExampleLayout{Order::kPositionMajor, 0}));
  EXPECT_EQ(result.layouts[1], (ExampleLayout{Order::kOwnAxis, 1}));
  EXPECT_EQ(result.layouts[2], (ExampleLayout{Order::kExampleMajor, 0}));
  EXPECT_EQ(result.layouts[3], (ExampleLayout{Order::kExampleMajor, 0}));
  EXPECT_EQ(result.layouts[4], (ExampleLayout{Order::kExampleMajor, 0}));
  EXPECT_EQ(result.layouts[5], (ExampleLayout{Order::kOwnAxis, 0}));
}

TEST(ScanLayers, TellsTheExamplesFromAsManyPositions) {
  const ScanResult result = scan_source(R"(
    h = torch.tanh(torch.linear(x.transpose(0, 1), self.first.weight)).transpose(0, 1)
    h = torch.tanh(torch.linear(h, self.second.weight))
    return torch.linear(h.mean(1), self.head.weight * 1.0)
)",
                                        /*positions=*/3);
  EXPECT_EQ(result.layouts[0].axis, 1);
  EXPECT_EQ(result.layouts[1].axis, 0);
}

TEST(ScanLayers, NamesEveryParameterThatIsNotObservedAndWhy) {
  const ScanResult result = scan_source(R"(
    h = torch.linear(x.mean(1), self.first.weight) * self.scale
    h = torch.linear(h, self.second.weight) + h.matmul(self.second.weight.tanh())
    return torch.linear(h, self.head.weight)
)");
  EXPECT_THAT(names_of(result.layers), ElementsAre("first", "head"));
  EXPECT_THAT(result.unobserved, ElementsAre("second.weight: used by aten::tanh, which is not observed",
                                             "scale: used by aten::mul, which is not observed"));
  EXPECT_THAT(scan_source("    return torch.linear(x.mean(1), self.head.weight)\n").unobserved,
              ElementsAre("first.weight: not used in the forward pass", "second.weight: not used in the forward pass",
                          "scale: not used in the forward pass"));
}

TEST(ScanLayers, RefusesAModelThatMixesExamples) {
  EXPECT_THAT(input_error_of([] {
                scan_source(R"(
    h = torch.linear(x.mean(1), self.first.weight)
    h = torch.linear(torch.tanh(h - h.mean(0)), self.second.weight)
    return torch.linear(h, self.head.weight) + 0.0 * self.scale.sum()
)");
              }),
              HasSubstr("mixes the examples of a batch"));
}

TEST(ScanLayers, RefusesALayerOneRowOfWhichServesAllExamplesByName) {
  const ScanResult result = scan_source(R"(
    shared = torch.tanh(torch.linear(torch.ones([1, 4], dtype=x.dtype), self.first.weight))
    h = torch.linear(torch.tanh(x.mean(1) * shared), self.second.weight)
    return torch.linear(h, self.head.weight) + 0.0 * self.scale.sum()
)");
  EXPECT_THAT(names_of(result.layers), ElementsAre("second", "head"));
  EXPECT_THAT(result.unobserved[0], HasSubstr("first.weight: its layer mixes examples"));
}

TEST(ScanLayers, RefusesALayerWhoseExamplesCannotBeTold) {
  // One row of four positions that reaches the loss: 4 k mod 3 = k, so that both orders fit.
  const ScanResult result = scan_source(R"(
    h = torch.linear(x.reshape([-1, 4]), self.first.weight)
    return torch.linear(torch.tanh(h).view([-1, 4, 4])[:, 0], self.head.weight)
)",
                                        /*positions=*/4);
  EXPECT_THAT(names_of(result.layers), ElementsAre("head"));
  EXPECT_THAT(result.unobserved[0], HasSubstr("first.weight: which axis of its layer is the example is ambiguous"));
}

TEST(ScanLayers, RefusesALayerThatTheLossDoesNotDependOn) {
  const ScanResult result = scan_source(R"(
    h = torch.linear(x, self.first.weight).detach()
    return torch.linear(h.mean(1), self.head.weight)
)");
  EXPECT_THAT(result.unobserved[0], HasSubstr("first.weight: the loss does not depend on its layer"));
}

TEST(ScanLayers, RefusesAWeightThatIsUsedInTwoWays) {
  TapModel model{"TiedHead",
                 {{"words.weight", numbers({7, 4}, 1)}, {"inner.weight", numbers({4, 4}, 2)}},
                 {},
                 R"(
def forward(self, x):
    h = torch.linear(torch.embedding(self.words.weight, x).mean(1), self.inner.weight)
    return torch.linear(h, self.words.weight)
)",
                 {},
                 make_batch({at::arange(40).remainder(7).view({8, 5})}, 7)};
  const ScanResult result = scan(model);
  EXPECT_THAT(names_of(result.layers), ElementsAre("inner"));
  EXPECT_THAT(result.unobserved,
              ElementsAre("words.weight: used in two different ways, as embedding 'words' and as linear 'words'"));
}

TEST(ScanLayers, GivesATiedWeightItsFirstNameAlsoAfterItWasSaved) {
  torch::jit::Module module("Tied");
  const at::Tensor weight = numbers({4, 4}, 1);
  for (const char* name : {"a", "b"}) {
    torch::jit::Module child(name);
    child.register_parameter("weight", weight, false);
    module.register_module(name, child);
  }
  module.define(
      "def forward(self, x):\n    return torch.linear(torch.tanh(torch.linear(x, self.b.weight)), self.a.weight)\n");
  const TemporaryFolder folder;
  module.save((folder / "tied.pt").string());
  const auto runner = open_model(folder / "tied.pt", at::kCPU);
  const ScanResult result = scan_layers(*runner, make_batch({numbers({8, 4}, 9)}, 4), "cross_entropy");
  EXPECT_THAT(names_of(result.layers), ElementsAre("a"));
  EXPECT_THAT(result.layers.aliases, ElementsAre(std::make_pair("b.weight", "a.weight")));
  EXPECT_THAT(result.unobserved, IsEmpty());
}

TEST(ScanLayers, RefusesASingleExampleAndAModelWithoutLayers) {
  const TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  EXPECT_THAT(input_error_of([&] { scan_layers(*runner, narrow(model.data, 0, 1), "cross_entropy"); }),
              HasSubstr("at least two examples"));
  EXPECT_THAT(input_error_of([] { scan_source("    return (x.mean(1) * self.scale)[:, 0:3]\n"); }),
              HasSubstr("scale: used by aten::mul"));
}

TEST(ScanLayers, ObservesEveryParameterOfTheArchitecturesMadeHere) {
  Batch batch = make_batch({numbers({3, 1, 28, 28}, 9)}, 10, {3});
  batch.inputs[0] = batch.inputs[0].to(at::kFloat);
  for (const std::string& name : architecture_names()) {
    const auto runner = make_architecture(name, {}, {1, 28, 28}, 10, /*seed=*/1);
    EXPECT_THAT(scan_layers(*runner, batch, "cross_entropy").unobserved, IsEmpty()) << name;
  }
  const auto separable =
      make_architecture("convolutional", YAML::Load("{separable: true, norm: batch}"), {1, 28, 28}, 10, 1);
  EXPECT_THAT(scan_layers(*separable, batch, "cross_entropy").unobserved, IsEmpty());
}

/// What Python exports: the fused path of attention, normalisation, dropout, words for padding.
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

}  // namespace
}  // namespace amalgam
