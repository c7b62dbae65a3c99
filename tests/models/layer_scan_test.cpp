#include "models/layer_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "models/architectures/architecture.h"
#include "models/torchscript_runner.h"
#include "temporary_folder.h"
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
    h = torch.linear(x.mean(1), self.first.weight) / self.scale
    h = torch.linear(h, self.second.weight) + h.matmul(self.second.weight.tanh())
    return torch.linear(h, self.head.weight)
)");
  EXPECT_THAT(names_of(result.layers), ElementsAre("first", "head"));
  EXPECT_THAT(result.unobserved, ElementsAre("second.weight: used by aten::tanh, which is not observed",
                                             "scale: used by aten::div, which is not observed"));
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
  const ScanResult result = scan_source(R"(
    h = torch.linear(torch.linear(x.mean(1), self.first.weight), self.first.weight.t())
    return torch.linear(torch.linear(h * self.scale, self.second.weight), self.head.weight)
)");
  EXPECT_THAT(names_of(result.layers), ElementsAre("scale", "second", "head"));
  EXPECT_THAT(result.unobserved,
              ElementsAre("first.weight: used in two different ways, as linear 'first' and as linear 'first'"));
}

TEST(ScanLayers, KeepsAnEmbeddingThatIsTheOutputsWeightAsTwoLayers) {
  const LayerTable table = scan(zoo_model("Tied")).layers;
  ASSERT_THAT(names_of(table), ElementsAre("words", "inner", "words"));
  EXPECT_EQ(table.layers[0].kind, LayerKind::kEmbedding);
  EXPECT_EQ(table.layers[2].kind, LayerKind::kLinear);
  for (const size_t i : {size_t{0}, size_t{2}}) EXPECT_EQ(table.layers[i].weight, "words.weight");
  EXPECT_EQ(table.layers[2].bias, "head.bias");
  EXPECT_EQ(to_json(layer_table_from_json(to_json(table))), to_json(table));
}

TEST(ScanLayers, TellsScalesAndNormsApart) {
  const auto kinds_of = [](const char* model) {
    std::vector<std::string> kinds;
    for (const Layer& layer : scan(zoo_model(model)).layers.layers) kinds.push_back(name_of(layer.kind));
    return kinds;
  };
  EXPECT_THAT(kinds_of("Scales"), ElementsAre("scale", "scale", "scale", "scale", "rms_norm", "linear", "scale"));
  EXPECT_THAT(kinds_of("ChannelNorms"), ElementsAre("group_norm", "instance_norm", "instance_norm", "linear"));
}

TEST(ScanLayers, FindsTheUnitsOfAWeightThatIsTheLeftFactor) {
  const ScanResult result = scan(zoo_model("Left"));
  const auto& layers = result.layers.layers;
  ASSERT_THAT(names_of(result.layers), ElementsAre("features", "tokens", "batched", "column", "column.bias", "head"));
  for (const Layer& layer : layers) EXPECT_EQ(layer.transposed, layer.name == "batched") << layer.name;
  EXPECT_EQ(layers[1].in, 5);
  EXPECT_EQ(layers[2].bias, "batched.bias");
  EXPECT_EQ(result.layouts[2], (ExampleLayout{ExampleLayout::Order::kExampleMajor, 1}));
}

TEST(ScanLayers, RefusesPositionsThatAreUsedElsewhereThanInOneAddition) {
  const ScanResult result = scan_source(R"(
    position = torch.embedding(self.second.weight, torch.arange(4))
    h = torch.linear(x + position, self.first.weight) + position.tanh()
    return torch.linear((h * self.scale).mean(1), self.head.weight)
)",
                                        /*positions=*/4);
  EXPECT_THAT(names_of(result.layers), ElementsAre("first", "scale", "head"));
  EXPECT_THAT(result.unobserved, ElementsAre(HasSubstr("second.weight: its layer mixes examples")));
}

TEST(ScanLayers, TellsThatModelsOfPlainOperatorsNeedNoGraph) {
  for (const TapModel& model : tap_model_zoo()) EXPECT_FALSE(scan(model).needs_graph) << model.name;
}

TEST(ScanLayers, TellsThatAModelTakesAnotherPathWithoutAGraph) {
  EXPECT_TRUE(scan_source(R"(
    w = self.first.weight
    if not torch.is_grad_enabled():
        w = w * 2.0
    return torch.linear(torch.linear(x.mean(1), w), self.head.weight)
)")
                  .needs_graph);
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
  EXPECT_THAT(input_error_of([] { scan_source("    return (x.mean(1) / self.scale)[:, 0:3]\n"); }),
              HasSubstr("scale: used by aten::div"));
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

}  // namespace
}  // namespace amalgam
