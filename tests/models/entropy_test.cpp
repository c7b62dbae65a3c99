#include "models/entropy.h"

#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>
#include <limits>

#include "core/random.h"
#include "expect_error.h"
#include "models/torchscript_runner.h"

namespace amalgam {
namespace {

using testing::HasSubstr;

constexpr double kEps32 = 1.1920929e-7;

at::Tensor numbers(at::IntArrayRef shape, const std::string& label, at::ScalarType dtype = at::kDouble) {
  return at::randn(shape, RandomStream(3, label).generator(), at::TensorOptions(dtype));
}

/// −Σ p log p, one example after the other.
double naive_entropy(const at::Tensor& logits) {
  std::vector<double> p;
  double sum = 0, entropy = 0;
  for (int64_t c = 0; c < logits.numel(); ++c) sum += p.emplace_back(std::exp(logits[c].item<double>()));
  for (const double share : p) entropy -= share / sum * std::log(share / sum);
  return entropy;
}

TEST(PredictionEntropies, AreThoseOfTheSharesOfTheClasses) {
  const at::Tensor output = 2 * numbers({7, 5}, "classes");
  const at::Tensor found = prediction_entropies({}, output, at::Tensor());
  for (int64_t n = 0; n < 7; ++n) EXPECT_NEAR(found[n].item<double>(), naive_entropy(output[n]), 1e-14);
}

TEST(PredictionEntropies, AreTheLogarithmOfTheClassesWhereAllAreAlikeAndZeroWhereOneIsSure) {
  const at::Tensor output = at::tensor({1.0, 1.0, 1.0, 1.0, 0.0, 800.0, 0.0, -800.0}, at::kDouble).reshape({2, 4});
  const at::Tensor found = prediction_entropies({}, output, at::Tensor());
  EXPECT_NEAR(found[0].item<double>(), std::log(4.0), 1e-15);
  EXPECT_EQ(found[1].item<double>(), 0.0);
}

TEST(PredictionEntropies, OfTokensAreTheMeanOverThoseThatCount) {
  const at::Tensor output = numbers({2, 3, 4}, "tokens");
  const at::Tensor target = at::tensor({1, -100, 0, -100, -100, -100}).reshape({2, 3});
  const at::Tensor found = prediction_entropies({}, output, target);
  EXPECT_NEAR(found[0].item<double>(), (naive_entropy(output[0][0]) + naive_entropy(output[0][2])) / 2, 1e-14);
  EXPECT_EQ(found[1].item<double>(), 0.0);
}

TEST(PredictionEntropies, OfLabelsAreThoseOfOneOrTheOther) {
  const at::Tensor output = 3 * numbers({4, 2}, "labels");
  const at::Tensor found = prediction_entropies("binary_cross_entropy", output, at::Tensor());
  for (int64_t n = 0; n < 4; ++n) {
    double expected = 0;
    for (int64_t k = 0; k < 2; ++k)
      expected += naive_entropy(at::tensor({0.0, output[n][k].item<double>()}, at::kDouble)) / 2;
    EXPECT_NEAR(found[n].item<double>(), expected, 1e-13);
  }
  const at::Tensor sure = at::tensor({-700.0, 700.0, 0.0}, at::kDouble);
  const at::Tensor ends = prediction_entropies("binary_cross_entropy", sure, at::Tensor());
  EXPECT_NEAR(ends[0].item<double>(), 0.0, 1e-12);
  EXPECT_NEAR(ends[1].item<double>(), 0.0, 1e-12);
  EXPECT_NEAR(ends[2].item<double>(), std::log(2.0), 1e-15);
}

TEST(PredictionEntropies, DoNotLookAtLabels) {
  const at::Tensor output = numbers({3, 4}, "unlabelled");
  EXPECT_TRUE(at::equal(prediction_entropies({}, output, at::tensor({0, 1, 2})),
                        prediction_entropies({}, output, at::tensor({3, 3, -1}))));
}

TEST(PredictionEntropies, RefuseNumbersAndWhatIsNotFinite) {
  EXPECT_THAT(input_error_of([] { prediction_entropies("mean_squared_error", at::zeros({2}), at::zeros({2})); }),
              HasSubstr("no entropy"));
  at::Tensor output = at::zeros({3, 2});
  output[1][0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(prediction_entropies({}, output, at::Tensor()), ExampleError);
  EXPECT_THAT(input_error_of([] { prediction_entropies({}, at::zeros({2}), at::zeros({2})); }), HasSubstr("[N, C]"));
  EXPECT_THAT(input_error_of([] {
                prediction_entropies({}, at::zeros({2, 3, 4}), at::zeros({2, 2}, at::kLong));
              }),
              HasSubstr("do not fit"));
}

/// f = x Wᵀ + b; `spare` is not used.
std::unique_ptr<ModelRunner> softmax_model(const at::Tensor& weight, const at::Tensor& bias) {
  torch::jit::Module module("Softmax");
  module.register_parameter("weight", weight.clone(), false);
  module.register_parameter("bias", bias.clone(), false);
  module.register_parameter("spare", at::ones({2}, weight.options()), false);
  module.define("def forward(self, x):\n    return torch.linear(x, self.weight, self.bias)\n");
  return runner_from_module(module);
}

Batch batch_of(const at::Tensor& inputs) {
  Batch batch;
  batch.inputs = {inputs};
  batch.target = at::zeros({inputs.size(0)}, at::kLong);
  batch.count = inputs.size(0);
  return batch;
}

TEST(EntropyGradient, IsTheFormulaOfALinearSoftmaxModel) {
  const at::Tensor x = numbers({9, 4}, "x"), weight = numbers({5, 4}, "weight"), bias = numbers({5}, "bias");
  const auto model = softmax_model(weight, bias);
  const at::NoGradGuard no_grad;  // as while merging
  const EntropyGradient found = entropy_gradient(*model, batch_of(x), {}, {"weight", "bias", "spare"});
  // ∂H/∂f_c = −p_c (log p_c + H)
  const at::Tensor log_p = at::log_softmax(at::linear(x, weight, bias), 1);
  const at::Tensor entropy = -(log_p.exp() * log_p).sum(1, /*keepdim=*/true);
  const at::Tensor slope = -log_p.exp() * (log_p + entropy) / 9;
  EXPECT_NEAR(found.value, entropy.mean().item<double>(), 1e-14);
  EXPECT_TRUE(at::allclose(found.gradient.at("weight"), slope.t().mm(x), 0, 1e-14));
  EXPECT_TRUE(at::allclose(found.gradient.at("bias"), slope.sum(0), 0, 1e-14));
  EXPECT_TRUE(at::equal(found.gradient.at("spare"), at::zeros({2}, at::kDouble)));
  for (const auto& [name, parameter] : model->parameters()) EXPECT_FALSE(parameter.requires_grad()) << name;
}

TEST(EntropyGradient, KeepsTheParametersDtypeAndComputesHalvesInFloat32) {
  const at::Tensor x = numbers({9, 4}, "x", at::kFloat).to(at::kBFloat16);
  const at::Tensor weight = numbers({5, 4}, "weight", at::kFloat).to(at::kBFloat16);
  const auto model = softmax_model(weight, at::zeros({5}, at::kBFloat16));
  const EntropyGradient found = entropy_gradient(*model, batch_of(x), {}, {"weight"});
  EXPECT_EQ(found.gradient.at("weight").scalar_type(), at::kBFloat16);
  const at::Tensor output = at::linear(x, weight).to(at::kDouble);
  double expected = 0;
  for (int64_t n = 0; n < 9; ++n) expected += naive_entropy(output[n]) / 9;
  EXPECT_NEAR(found.value, expected, 20 * kEps32);
}

TEST(EntropyGradient, RefusesAnUnknownParameter) {
  const auto model = softmax_model(at::zeros({2, 2}), at::zeros({2}));
  EXPECT_THAT(input_error_of([&] {
                entropy_gradient(*model, batch_of(at::zeros({1, 2})), {}, {"wieght"});
              }),
              HasSubstr("did you mean 'weight'"));
}

}  // namespace
}  // namespace amalgam
