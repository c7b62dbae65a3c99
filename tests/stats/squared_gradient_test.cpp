#include "stats/squared_gradient.h"

#include <gtest/gtest.h>

#include "stats/reference.h"
#include "stats/rows.h"

namespace amalgam {
namespace {

using namespace reference;

constexpr int64_t kUnlimited = int64_t{1} << 30;
constexpr double kBound = 32 * kFloat64Epsilon;  // sums of up to some tens of products

at::Tensor squared_weight(const Layer& layer, const std::vector<LayerUse>& uses, std::vector<int64_t> shape,
                          int64_t limit = kUnlimited, at::ScalarType dtype = at::kDouble) {
  at::Tensor squared = at::zeros(shape, dtype);
  add_squared_weight_gradient(layer, uses, squared, limit);
  return squared;
}

at::Tensor squared_bias(const Layer& layer, const std::vector<LayerUse>& uses, std::vector<int64_t> shape) {
  at::Tensor squared = at::zeros(shape, at::kDouble);
  add_squared_bias_gradient(layer, uses, squared);
  return squared;
}

// A linear layer's use of T rows an example, and Σ_n (∂ loss_n)² of its weight by autograd over all given uses.
LayerUse linear_use(int64_t examples, int64_t positions, int64_t out, int64_t in, uint64_t seed) {
  return use_of(random({examples, positions, in}, seed), random({examples, positions, out}, seed + 1));
}

at::Tensor linear_reference(const std::vector<LayerUse>& uses, int64_t out, int64_t in) {
  return squared_by_autograd(at::zeros({out, in}, at::kDouble), uses[0].input.size(0),
                             [&](const at::Tensor& weight, int64_t n) {
                               at::Tensor loss = at::zeros({}, at::kDouble);
                               for (const auto& use : uses)
                                 loss = loss + (at::linear(use.input[n], weight) * use.output_gradient[n]).sum();
                               return loss;
                             });
}

TEST(SquaredGradient, OfALinearWeightIsThatOfSingleExamples) {
  for (const int64_t positions : {1, 2, 7})
    for (const int64_t limit : {int64_t{1}, int64_t{400}, kUnlimited}) {
      const LayerUse use = linear_use(5, positions, 3, 4, 1);
      expect_close(squared_weight(linear(3, 4), {use}, {3, 4}, limit), linear_reference({use}, 3, 4), kBound);
    }
}

TEST(SquaredGradient, IsNotTheSquareOfTheBatchsGradient) {
  const LayerUse use = linear_use(5, 2, 3, 4, 3);
  const at::Tensor of_batch = at::einsum("nto,nti->oi", {use.output_gradient, use.input}).square();
  const at::Tensor of_examples = squared_weight(linear(3, 4), {use}, {3, 4});
  EXPECT_GT((of_batch - of_examples).abs().max().item<double>(), 0.5 * of_examples.max().item<double>());
}

TEST(SquaredGradient, CountsRowsThatTheMaskLeavesOut) {
  LayerUse use = linear_use(3, 4, 3, 4, 5);
  const at::Tensor expected = squared_weight(linear(3, 4), {use}, {3, 4});
  use.mask = at::zeros({3, 4}, at::kBool);
  EXPECT_TRUE(squared_weight(linear(3, 4), {use}, {3, 4}).equal(expected));
}

TEST(SquaredGradient, OfATiedWeightIsSummedOverUsesBeforeItIsSquared) {
  const std::vector<LayerUse> uses = {linear_use(3, 1, 3, 4, 7), linear_use(3, 1, 3, 4, 9), linear_use(3, 5, 3, 4, 11)};
  const at::Tensor expected = linear_reference(uses, 3, 4);
  expect_close(squared_weight(linear(3, 4), uses, {3, 4}), expected, kBound);
  expect_close(squared_weight(linear(3, 4), uses, {3, 4}, 1), expected, kBound);
}

TEST(SquaredGradient, PassesOverUsesOnWhichTheLossDoesNotDepend) {
  const LayerUse use = linear_use(3, 2, 3, 4, 13), unused = use_of(random({3, 2, 4}, 15));
  expect_close(squared_weight(linear(3, 4), {unused, use}, {3, 4}), linear_reference({use}, 3, 4), kBound);
  EXPECT_EQ(squared_weight(linear(3, 4), {unused}, {3, 4}).abs().max().item<double>(), 0);
  EXPECT_EQ(squared_bias(linear(3, 4), {unused}, {3}).abs().max().item<double>(), 0);
}

TEST(SquaredGradient, OfARowSliceLandsInItsRows) {
  Layer layer = linear(3, 4);
  layer.row_begin = 2;
  layer.row_end = 5;
  const LayerUse use = linear_use(3, 2, 3, 4, 17);
  const at::Tensor squared = squared_weight(layer, {use}, {7, 4}), bias = squared_bias(layer, {use}, {7});
  expect_close(squared.narrow(0, 2, 3), linear_reference({use}, 3, 4), kBound);
  EXPECT_EQ(squared.narrow(0, 0, 2).abs().sum().item<double>() + squared.narrow(0, 5, 2).abs().sum().item<double>(), 0);
  expect_close(bias.narrow(0, 2, 3), use.output_gradient.sum(1).square().sum(0), kBound);
  EXPECT_EQ(bias.narrow(0, 0, 2).sum().item<double>() + bias.narrow(0, 5, 2).sum().item<double>(), 0);
}

TEST(SquaredGradient, OfATransposedWeightIsStoredTransposed) {
  Layer layer = linear(3, 4);
  layer.transposed = true;
  layer.row_begin = 1;
  for (const int64_t positions : {1, 2}) {
    const LayerUse use = linear_use(3, positions, 3, 4, 19);
    const at::Tensor squared = squared_weight(layer, {use}, {4, 6});
    expect_close(squared.narrow(1, 1, 3), linear_reference({use}, 3, 4).t(), kBound);
    EXPECT_EQ(squared.select(1, 0).sum().item<double>() + squared.narrow(1, 4, 2).sum().item<double>(), 0);
  }
}

TEST(SquaredGradient, OfABiasIsSummedOverRowsAndUsesFirst) {
  const std::vector<LayerUse> uses = {linear_use(4, 3, 5, 2, 21), linear_use(4, 2, 5, 2, 23)};
  const at::Tensor expected =
      squared_by_autograd(at::zeros({5}, at::kDouble), 4, [&](const at::Tensor& bias, int64_t n) {
        return (bias * uses[0].output_gradient[n]).sum() + (bias * uses[1].output_gradient[n]).sum();
      });
  expect_close(squared_bias(linear(5, 2), uses, {5}), expected, kBound);
}

TEST(SquaredGradient, OfAConvolutionIsThatOfSingleExamples) {
  struct Case {
    int64_t out, channels, groups;
    Window window;
    std::vector<int64_t> spatial;
  };
  for (const auto& c : std::vector<Case>{{4, 6, 2, {{3, 2}, {2, 1}, {1, 0}, {1, 2}}, {7, 6}},
                                         {6, 6, 6, {{3, 3}, {2, 2}, {1, 1}, {1, 1}}, {6, 5}},
                                         {3, 2, 1, {{4, 4}, {1, 1}, {0, 0}, {1, 1}}, {4, 4}},  // one position
                                         {2, 4, 2, {{3}, {2}, {2}, {2}}, {9}},
                                         {2, 2, 1, {{2, 1, 2}, {1, 2, 1}, {1, 0, 0}, {1, 1, 2}}, {3, 4, 5}}}) {
    const Layer layer = convolution(c.out, c.channels, c.groups, c.window);
    std::vector<int64_t> shape = {3, c.channels}, weight_shape = {c.out, c.channels / c.groups};
    shape.insert(shape.end(), c.spatial.begin(), c.spatial.end());
    weight_shape.insert(weight_shape.end(), c.window.kernel.begin(), c.window.kernel.end());
    LayerUse use = use_of(random(shape, 25));
    use.output_gradient = random({3, positions_of(layer, use), c.out}, 26);
    const auto loss = [&](const at::Tensor& weight, int64_t n) {
      const at::Tensor output =
          at::convolution(use.input.narrow(0, n, 1), weight, {}, layer.stride, layer.padding, layer.dilation, false,
                          std::vector<int64_t>(c.spatial.size(), 0), c.groups);
      return (output.flatten(2)[0].t() * use.output_gradient[n]).sum();
    };
    const at::Tensor expected = squared_by_autograd(at::zeros(weight_shape, at::kDouble), 3, loss);
    expect_close(squared_weight(layer, {use}, weight_shape), expected, kBound);
    expect_close(squared_weight(layer, {use}, weight_shape, 1), expected, kBound);
  }
}

TEST(SquaredGradient, OfAnEmbeddingSumsRepeatedIndicesOfAnExampleFirst) {
  const std::vector<LayerUse> uses = {use_of(random_indices(5, {4, 6}, 27), random({4, 6, 3}, 28)),
                                      use_of(random_indices(5, {4, 2}, 29), random({4, 2, 3}, 30))};
  for (const size_t count : {1, 2}) {
    const std::vector<LayerUse> some(uses.begin(), uses.begin() + static_cast<std::ptrdiff_t>(count));
    const auto loss = [&](const at::Tensor& weight, int64_t n) {
      at::Tensor total = at::zeros({}, at::kDouble);
      for (const auto& use : some) total = total + (at::embedding(weight, use.input[n]) * use.output_gradient[n]).sum();
      return total;
    };
    const at::Tensor expected = squared_by_autograd(at::zeros({7, 3}, at::kDouble), 4, loss);
    for (const int64_t limit : {int64_t{1}, kUnlimited})
      expect_close(squared_weight(embedding(7, 3), some, {7, 3}, limit), expected, kBound);
    EXPECT_EQ(expected.narrow(0, 5, 2).sum().item<double>(), 0) << "rows 5 and 6 are never looked up";
  }
}

TEST(SquaredGradient, OfANormIsThatOfSingleExamples) {
  const at::Tensor input = random({4, 3, 5}, 31), gradient = random({4, 3, 5}, 32);
  const at::Tensor normalised = at::layer_norm(input, {5}, {}, {}, 1e-5);
  const auto loss = [&](const at::Tensor& weight, int64_t n) {
    return (at::layer_norm(input[n], {5}, weight, {}, 1e-5) * gradient[n]).sum();
  };
  const at::Tensor expected = squared_by_autograd(at::ones({5}, at::kDouble), 4, loss);
  const LayerUse use = use_of(normalised, gradient);
  for (const auto kind : {LayerKind::kLayerNorm, LayerKind::kBatchNorm})
    for (const int64_t limit : {int64_t{1}, kUnlimited})
      expect_close(squared_weight(norm(kind, 5), {use}, {5}, limit), expected, kBound);
  expect_close(squared_bias(norm(LayerKind::kLayerNorm, 5), {use}, {5}), gradient.sum(1).square().sum(0), kBound);
}

TEST(SquaredGradient, OfANormOverSeveralAxesHasTheParametersShape) {
  const at::Tensor normalised = random({4, 3, 6}, 33), gradient = random({4, 3, 6}, 34);
  const LayerUse use = use_of(normalised, gradient);
  const at::Tensor expected = (normalised * gradient).sum(1).square().sum(0).view({2, 3});
  expect_close(squared_weight(norm(LayerKind::kLayerNorm, 6), {use}, {2, 3}), expected, kBound);
}

TEST(SquaredGradient, OfAnAddedParameterHasItsShape) {
  const at::Tensor gradient = random({4, 1, 6}, 35);
  const at::Tensor squared = squared_bias(bias(6), {use_of({}, gradient)}, {1, 2, 3});
  expect_close(squared, gradient.square().sum(0).view({1, 2, 3}), kBound);
}

TEST(SquaredGradient, OfFloat32ObservationsIsOffByAFewUnitsOfFloat32) {
  for (const int64_t positions : {1, 7}) {
    const LayerUse exact = linear_use(16, positions, 9, 8, 37);
    const LayerUse rounded = use_of(exact.input.to(at::kFloat), exact.output_gradient.to(at::kFloat));
    const LayerUse widened = use_of(rounded.input.to(at::kDouble), rounded.output_gradient.to(at::kDouble));
    expect_close(squared_weight(linear(9, 8), {rounded}, {9, 8}), linear_reference({widened}, 9, 8),
                 8 * kFloat32Epsilon);
  }
}

TEST(SquaredGradient, OfOneRowIsTheDiagonalOfTheKroneckerProductOfItsFactors) {
  // For one example of one row, vec(g aᵀ) vec(g aᵀ)ᵀ = (g gᵀ) ⊗ (a aᵀ): K-FAC is exact.
  const LayerUse use = linear_use(1, 1, 3, 4, 39);
  const at::Tensor a = naive_gram(use.input, {}), b = naive_gram(use.output_gradient, {});
  const at::Tensor diagonal = at::kron(b, a).diagonal().view({3, 4});
  expect_close(squared_weight(linear(3, 4), {use}, {3, 4}), diagonal, 4 * kFloat64Epsilon);
}

}  // namespace
}  // namespace amalgam
