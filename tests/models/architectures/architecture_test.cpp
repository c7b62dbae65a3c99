#include "models/architectures/architecture.h"

#include <cmath>

#include <torch/csrc/jit/passes/inliner.h>

#include "core/random.h"
#include "core/safetensors.h"
#include "expect_error.h"
#include "models/artefact.h"
#include "models/memory_batches.h"
#include "models/python.h"
#include "models/torchscript_runner.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::StartsWith;

std::unique_ptr<ModelRunner> make(const std::string& name, const std::string& options = "{}",
                                  std::vector<int64_t> input_shape = {1, 28, 28}, uint64_t seed = 5) {
  return make_architecture(name, YAML::Load(options), input_shape, 10, seed);
}

int64_t parameter_count(const ModelRunner& model) {
  int64_t count = 0;
  for (const auto& [name, tensor] : model.parameters()) count += tensor.numel();
  return count;
}

TEST(Architecture, PutsAllButTheHeadUnderBody) {
  for (const std::string& name : architecture_names()) {
    const auto model = make(name);
    for (const std::string& parameter : model->parameter_names())
      EXPECT_THAT(parameter, testing::AnyOf(StartsWith("body."), "head.weight", "head.bias"));
    EXPECT_THAT(model->parameter_names(), IsSupersetOf({"head.weight", "head.bias"}));
    const at::Tensor output = model->forward(batch_of(at::rand({3, 1, 28, 28})));
    EXPECT_EQ(output.sizes(), at::IntArrayRef({3, 10})) << name;
    EXPECT_TRUE(at::isfinite(output).all().item<bool>()) << name;
  }
}

TEST(Architecture, WeightsDependOnTheSeedAlone) {
  for (const std::string& name : architecture_names()) {
    const NamedTensors same = make(name)->parameters(), other = make(name, "{}", {1, 28, 28}, 6)->parameters();
    for (const auto& [parameter, tensor] : make(name)->parameters()) {
      EXPECT_TRUE(at::equal(tensor, same.at(parameter))) << parameter;
      const bool constant = parameter.find("norm") != std::string::npos || parameter.ends_with("bias");
      EXPECT_EQ(at::equal(tensor, other.at(parameter)), constant) << parameter;
    }
  }
}

TEST(Architecture, VisionTransformerHasItsNamesAndSize) {
  const auto model = make("vision_transformer");
  EXPECT_THAT(model->parameter_names(),
              IsSupersetOf({"body.embedding.weight", "body.position", "body.blocks.0.attention.query.weight",
                            "body.blocks.3.attention.key.bias", "body.blocks.1.attention.value.weight",
                            "body.blocks.2.attention.output.weight", "body.blocks.0.attention_norm.weight",
                            "body.blocks.0.mlp.up.weight", "body.blocks.0.mlp.down.bias", "body.norm.weight"}));
  const int64_t block = 4 * (96 * 96 + 96) + 2 * 96 * 192 + 192 + 96 + 4 * 96;
  EXPECT_EQ(parameter_count(*model), (49 + 1) * 96 + 16 * 96 + 4 * block + 2 * 96 + 97 * 10);
}

at::Tensor normalised(const at::Tensor& x) {
  const at::Tensor centred = x - x.mean(-1, true);
  return centred / (centred.square().mean(-1, true) + 1e-5).sqrt();
}

/// One block of one head after another, one patch after another, in float64. Norm weights are 1 and 0.
at::Tensor naive_transformer(const NamedTensors& parameters, const at::Tensor& image, int64_t patch, int64_t heads) {
  const auto get = [&](const std::string& name) { return parameters.at(name).to(at::kDouble); };
  const auto linear = [&](const std::string& name, const at::Tensor& x) {
    return x.matmul(get(name + ".weight").t()) + get(name + ".bias");
  };
  std::vector<at::Tensor> patches;
  for (int64_t row = 0; row < image.size(1); row += patch)
    for (int64_t column = 0; column < image.size(2); column += patch)
      patches.push_back(image.slice(1, row, row + patch).slice(2, column, column + patch).reshape(-1));
  at::Tensor x = linear("body.embedding", at::stack(patches)) + get("body.position");
  const at::Tensor before = normalised(x);
  const at::Tensor query = linear("body.blocks.0.attention.query", before);
  const at::Tensor key = linear("body.blocks.0.attention.key", before);
  const at::Tensor value = linear("body.blocks.0.attention.value", before);
  const int64_t width = x.size(1) / heads;
  std::vector<at::Tensor> mixed;
  for (int64_t head = 0; head < heads; ++head) {
    const auto part = [&](const at::Tensor& all) { return all.slice(1, head * width, (head + 1) * width); };
    const at::Tensor weight = (part(query).matmul(part(key).t()) / std::sqrt(static_cast<double>(width))).exp();
    mixed.push_back(weight.matmul(part(value)) / weight.sum(1, true));
  }
  x = x + linear("body.blocks.0.attention.output", at::cat(mixed, 1));
  const at::Tensor up = linear("body.blocks.0.mlp.up", normalised(x));
  x = x + linear("body.blocks.0.mlp.down", up * 0.5 * (1 + at::erf(up / std::sqrt(2.0))));
  return linear("head", normalised(x).mean(0));
}

TEST(Architecture, VisionTransformerComputesWhatItsDefinitionSays) {
  const auto model = make("vision_transformer", "{width: 12, depth: 1, heads: 3, patch: 2}", {2, 4, 6});
  NamedTensors larger = model->parameters();  // weights of a new model are too small to tell a wrong attention
  at::Generator generator = RandomStream(1, "test").generator();
  for (auto& [name, tensor] : larger)
    if (name.find("norm") == std::string::npos) tensor = at::randn(tensor.sizes(), generator) * 0.5;
  model->set(larger);
  std::erase_if(larger, [](const auto& item) { return item.first.find("norm") != std::string::npos; });
  const at::Tensor images = at::randn({3, 2, 4, 6}, generator);
  const at::Tensor output = model->forward(batch_of(images)).to(at::kDouble);
  for (int64_t n = 0; n < 3; ++n) {
    const at::Tensor expected = naive_transformer(larger, images[n].to(at::kDouble), 2, 3);
    EXPECT_LE((output[n] - expected).abs().max().item<double>(), 64 * 1.2e-7 * expected.abs().max().item<double>());
  }
}

TEST(Architecture, VisionTransformerShowsEachWeightAsALinearOperator) {
  const auto model = make("vision_transformer", "{depth: 3}");
  const torch::jit::Module& module = dynamic_cast<TorchScriptRunner&>(*model).module();
  auto graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  int64_t linear = 0;
  for (const torch::jit::Node* node : graph->nodes())
    linear += node->kind() == c10::Symbol::fromQualString("aten::linear");
  EXPECT_EQ(linear, 1 + 3 * 6 + 1);
}

TEST(Architecture, VisionTransformerRefusesWhatDoesNotDivide) {
  EXPECT_THAT(input_error_of([] { make("vision_transformer", "{patch: 5}"); }),
              AllOf(HasSubstr("patch 5"), HasSubstr("28 x 28")));
  EXPECT_THAT(input_error_of([] { make("vision_transformer", "{heads: 5}"); }),
              AllOf(HasSubstr("5 heads"), HasSubstr("96")));
}

/// Gives a model parameters and running means at random, since a new model's zeros and ones hide what is left out.
/// @return them in float64
NamedTensors redrawn(ModelRunner& model) {
  at::Generator generator = RandomStream(1, "test").generator();
  NamedTensors values = tensors_of(model);
  for (auto& [name, tensor] : values) {
    tensor = at::randn(tensor.sizes(), generator) * 0.5;
    if (name.ends_with("running_var")) tensor = tensor.exp();
  }
  model.set(values);
  for (auto& [name, tensor] : values) tensor = tensor.to(at::kDouble);
  return values;
}

at::Tensor naive_linear(const NamedTensors& values, const std::string& name, const at::Tensor& x) {
  return x.matmul(values.at(name + ".weight").t()) + values.at(name + ".bias");
}

void expect_output(ModelRunner& model, const at::Tensor& inputs, const at::Tensor& expected) {
  const at::Tensor output = model.forward(batch_of(inputs)).to(at::kDouble);
  ASSERT_EQ(output.sizes(), expected.sizes());
  EXPECT_LE((output - expected).abs().max().item<double>(), 64 * 1.2e-7 * expected.abs().max().item<double>());
}

TEST(Architecture, MlpComputesWhatItsDefinitionSays) {
  const auto model = make("mlp", "{hidden: [7, 5]}", {2, 3, 4});
  const NamedTensors values = redrawn(*model);
  const at::Tensor images = at::randn({6, 2, 3, 4}, RandomStream(2, "test").generator());
  at::Tensor x = images.to(at::kDouble).flatten(1);
  for (const char* layer : {"body.layers.0", "body.layers.1"}) x = naive_linear(values, layer, x).clamp_min(0);
  expect_output(*model, images, naive_linear(values, "head", x));
}

TEST(Architecture, ConvolutionalComputesWhatItsDefinitionSays) {
  const at::Tensor images = at::randn({5, 3, 7, 10}, RandomStream(2, "test").generator());
  const at::Tensor exact = images.to(at::kDouble);
  const auto plain = make("convolutional", "{channels: [4, 6], kernel: 5}", {3, 7, 10});
  NamedTensors values = redrawn(*plain);
  const auto convolved = [&](const std::string& name, const at::Tensor& x, int64_t stride, int64_t groups = 1) {
    const at::Tensor weight = values.at(name + ".weight");
    const std::vector<int64_t> strides = {stride, stride}, padding = {weight.size(2) / 2, weight.size(3) / 2};
    const at::Tensor bias = values.contains(name + ".bias") ? values.at(name + ".bias") : at::Tensor();
    return at::conv2d(x, weight, bias, strides, padding, at::IntArrayRef{1, 1}, groups);
  };
  at::Tensor x = convolved("body.stages.0.convolution", exact, 1).clamp_min(0);
  x = convolved("body.stages.1.convolution", x, 2).clamp_min(0);  // [5, 6, 4, 5]
  expect_output(*plain, images, naive_linear(values, "head", x.mean(at::IntArrayRef{2, 3})));

  const auto both = make("convolutional", "{channels: [4, 6], separable: true, norm: batch}", {3, 7, 10});
  values = redrawn(*both);
  const auto normed = [&](const std::string& name, const at::Tensor& y) {
    const auto get = [&](const std::string& part) { return values.at(name + "." + part).view({-1, 1, 1}); };
    return (y - get("running_mean")) / (get("running_var") + 1e-5).sqrt() * get("weight") + get("bias");
  };
  x = normed("body.stages.0.norm", convolved("body.stages.0.convolution", exact, 1)).clamp_min(0);
  x = convolved("body.stages.1.pointwise", convolved("body.stages.1.depthwise", x, 2, 4), 1);
  x = normed("body.stages.1.norm", x).clamp_min(0);
  expect_output(*both, images, naive_linear(values, "head", x.mean(at::IntArrayRef{2, 3})));
}

TEST(Architecture, ConvolutionalCanBeSeparableAndNormalised) {
  const auto plain = make("convolutional", "{channels: [4, 6]}", {3, 8, 8});
  EXPECT_EQ(plain->parameters().at("body.stages.1.convolution.weight").sizes(), at::IntArrayRef({6, 4, 3, 3}));
  EXPECT_TRUE(plain->buffers().empty());
  const auto both = make("convolutional", "{channels: [4, 6], separable: true, norm: batch}", {3, 8, 8});
  const NamedTensors parameters = both->parameters();
  EXPECT_EQ(parameters.at("body.stages.0.convolution.weight").sizes(), at::IntArrayRef({4, 3, 3, 3}));
  EXPECT_EQ(parameters.at("body.stages.1.depthwise.weight").sizes(), at::IntArrayRef({4, 1, 3, 3}));
  EXPECT_EQ(parameters.at("body.stages.1.pointwise.weight").sizes(), at::IntArrayRef({6, 4, 1, 1}));
  EXPECT_FALSE(parameters.contains("body.stages.1.pointwise.bias"));
  EXPECT_EQ(both->buffers().size(), 4U);
}

TEST(Architecture, BatchNormFollowsTheBatchesInTrainingOnly) {
  const auto model = make("convolutional", "{channels: [4], norm: batch}", {1, 8, 8});
  const at::Tensor mean = model->buffers().at("body.stages.0.norm.running_mean");
  const Batch batch = batch_of(at::rand({4, 1, 8, 8}));
  model->forward(batch);
  EXPECT_EQ(mean.abs().max().item<float>(), 0.F);
  model->set_training(true);
  model->forward(batch);
  EXPECT_GT(mean.abs().max().item<float>(), 0.F);
}

TEST(Architecture, RefusesUnknownNamesAndOptions) {
  EXPECT_THAT(input_error_of([] { make("vision_transfomer"); }), HasSubstr("'vision_transformer'"));
  EXPECT_THAT(input_error_of([] { make("mlp", "{hiden: [3]}"); }), HasSubstr("'hidden'"));
  EXPECT_THAT(input_error_of([] { make("convolutional", "{kernel: 4}"); }), HasSubstr("even"));
  EXPECT_THAT(input_error_of([] { make("mlp", "{}", {784}); }), HasSubstr("[channels, height, width]"));
  EXPECT_THAT(
      input_error_of([] { resolve_architecture_options("mlp", YAML::Load("{depth: 3}"), "base.train.options"); }),
      HasSubstr("base.train.options.depth"));
}

TEST(Architecture, WritesOutItsDefaults) {
  const YAML::Node options = resolve_architecture_options("vision_transformer", YAML::Load("{depth: 2}"), "options");
  EXPECT_EQ(options["depth"].as<int>(), 2);
  EXPECT_EQ(options["width"].as<int>(), 96);
  EXPECT_EQ(options.size(), describe_architecture_options("vision_transformer").size());
}

TEST(Architecture, SavedFilesGiveTheSameOutputsInPython) {
  if (!std::filesystem::exists(kPython)) GTEST_SKIP() << "there is no " << kPython;
  const TemporaryFolder folder;
  const at::Tensor images = at::rand({4, 1, 28, 28});
  for (const auto& [name, options] : {std::pair{"vision_transformer", "{}"}, std::pair{"mlp", "{}"},
                                      std::pair{"convolutional", "{separable: true, norm: batch}"}}) {
    const auto model = make(name, options);
    model->save(folder / (name + std::string(".pt")));
    write_safetensors(folder / (name + std::string(".safetensors")),
                      {{"input", images}, {"output", model->forward(batch_of(images))}});
  }
  EXPECT_TRUE(run_python("compare_outputs.py", folder.path().string()));
}

}  // namespace
}  // namespace amalgam
