#include "stats/vector_gradient.h"

#include <gtest/gtest.h>

#include "stats/reference.h"
#include "stats/rows.h"

namespace amalgam {
namespace {

using namespace reference;

constexpr int64_t kUnlimited = int64_t{1} << 30;
constexpr double kBound = 32 * kFloat64Epsilon;

// [N, n]: the gradient of each example's loss, by autograd, one example at a time.
at::Tensor by_autograd(int64_t examples, int64_t size,
                       const std::function<at::Tensor(const at::Tensor&, int64_t)>& loss) {
  std::vector<at::Tensor> rows;
  for (int64_t n = 0; n < examples; ++n) {
    const at::Tensor leaf = at::zeros({size}, at::kDouble).requires_grad_();
    loss(leaf, n).backward();
    rows.push_back(leaf.grad());
  }
  return at::stack(rows);
}

TEST(IsVector, OneAxisAtMostIsLongerThanOne) {
  const auto is = [](std::vector<int64_t> shape) { return is_vector(shape); };
  EXPECT_TRUE(is({7}) && is({1, 1, 7}) && is({7, 1}) && is({1}) && is({}));
  EXPECT_FALSE(is({2, 7}));
  EXPECT_FALSE(is({0}));
}

TEST(IsVector, OfALayerIsABiasOrTheWeightOfANormOrScale) {
  EXPECT_TRUE(is_vector(linear(3, 4), "fc.bias", {3}));
  EXPECT_FALSE(is_vector(linear(1, 4), "fc.weight", {1, 4}));  // its layer has Gram matrices
  EXPECT_FALSE(is_vector(embedding(1, 4), "embedding.weight", {1, 4}));
  EXPECT_TRUE(is_vector(norm(LayerKind::kLayerNorm, 4), "norm.weight", {4}));
  EXPECT_TRUE(is_vector(norm(LayerKind::kScale, 4), "norm.weight", {4, 1}));
  EXPECT_TRUE(is_vector(bias(4), "position", {1, 1, 4}));
  EXPECT_FALSE(is_vector(bias(8), "position", {1, 2, 4}));
}

TEST(VectorGradients, OfAScaleAreThoseOfSingleExamplesOverAllUses) {
  const LayerUse first = use_of(random({5, 3, 4}, 1), random({5, 3, 4}, 2)),
                 second = use_of(random({5, 2, 4}, 3), random({5, 2, 4}, 4)), lost = use_of(random({5, 2, 4}, 5));
  const at::Tensor expected = by_autograd(5, 4, [&](const at::Tensor& weight, int64_t n) {
    return (first.input[n] * weight * first.output_gradient[n]).sum() +
           (second.input[n] * weight * second.output_gradient[n]).sum();
  });
  for (const int64_t limit : {int64_t{1}, int64_t{200}, kUnlimited})
    expect_close(weight_vector_gradients(norm(LayerKind::kScale, 4), {first, lost, second}, limit), expected, kBound);
}

TEST(VectorGradients, OfABiasAreThoseOfSingleExamplesOverAllUses) {
  const LayerUse first = use_of(random({5, 3, 2}, 1), random({5, 3, 4}, 2)),
                 second = use_of(random({5, 1, 2}, 3), random({5, 1, 4}, 4));
  const at::Tensor expected = by_autograd(5, 4, [&](const at::Tensor& bias, int64_t n) {
    return (bias * first.output_gradient[n]).sum() + (bias * second.output_gradient[n]).sum();
  });
  expect_close(bias_gradients({first, second}), expected, kBound);
}

TEST(VectorGradients, CountRowsThatTheMaskLeavesOut) {
  const at::Tensor mask = at::zeros({5, 3}, at::kBool);
  const LayerUse use = use_of(random({5, 3, 4}, 1), random({5, 3, 4}, 2), mask);
  expect_close(bias_gradients({use}), use.output_gradient.sum(1), 0);
}

TEST(VectorGradients, AreNotThereWhereTheLossDoesNotDependOnTheLayer) {
  const LayerUse lost = use_of(random({5, 3, 4}, 1));
  EXPECT_FALSE(bias_gradients({lost}).defined());
  EXPECT_FALSE(weight_vector_gradients(norm(LayerKind::kRmsNorm, 4), {lost}, kUnlimited).defined());
}

TEST(VectorGradients, OfHalfPrecisionAreSummedInSingle) {
  const LayerUse use = use_of(random({5, 3, 4}, 1).to(at::kHalf), random({5, 3, 4}, 2).to(at::kHalf));
  EXPECT_EQ(bias_gradients({use}).scalar_type(), at::kFloat);
  EXPECT_EQ(weight_vector_gradients(norm(LayerKind::kScale, 4), {use}, kUnlimited).scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace amalgam
