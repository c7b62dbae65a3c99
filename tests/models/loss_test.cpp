#include "models/loss.h"

#include <cmath>

#include "expect_error.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;

at::Tensor values(at::IntArrayRef shape) {
  return at::arange(c10::multiply_integers(shape), at::kDouble).mul(1.7).sin().mul(3).view(shape);
}

/// -log(exp(x_t) / Σ exp(x)), in plain float64.
double naive_loss(const at::Tensor& row, int64_t target) {
  double sum = 0;
  for (int64_t c = 0; c < row.size(0); ++c) sum += std::exp(row[c].item<double>());
  return std::log(sum) - row[target].item<double>();
}

TEST(Loss, IsTheNegativeLogLikelihoodOfEachExample) {
  const at::Tensor output = values({5, 3});
  const at::Tensor target = at::tensor({2, 0, 1, 1, 2}, at::kLong);
  const at::Tensor losses = example_losses("cross_entropy", output, target);
  ASSERT_EQ(losses.sizes(), at::IntArrayRef({5}));
  for (int64_t n = 0; n < 5; ++n)
    EXPECT_NEAR(losses[n].item<double>(), naive_loss(output[n], target[n].item<int64_t>()), 1e-14);
}

TEST(Loss, SumsOverTheTokensOfAnExampleAndIgnoresNegativeTargets) {
  const at::Tensor output = values({2, 3, 4});
  const at::Tensor target = at::tensor({3, -1, 0, -100, -1, -7}, at::kLong).view({2, 3});
  const at::Tensor losses = example_losses("cross_entropy", output, target);
  ASSERT_EQ(losses.sizes(), at::IntArrayRef({2}));
  EXPECT_NEAR(losses[0].item<double>(), naive_loss(output[0][0], 3) + naive_loss(output[0][2], 0), 1e-14);
  EXPECT_EQ(losses[1].item<double>(), 0);
}

TEST(Loss, GradientOfTheSumIsProbabilityMinusOneAtTheTarget) {
  const at::Tensor output = values({4, 3}).requires_grad_(true);
  const at::Tensor target = at::tensor({2, 0, -1, 1}, at::kLong);
  example_losses("cross_entropy", output, target).sum().backward();
  at::Tensor expected = at::softmax(output.detach(), 1);
  for (const int64_t n : {0, 1, 3}) expected[n][target[n].item<int64_t>()] -= 1;
  expected[2].zero_();
  EXPECT_LE((output.grad() - expected).abs().max().item<double>(), 1e-15);
}

TEST(Loss, ComputesHalfPrecisionOutputsInFloat32) {
  const at::Tensor output = values({6, 5}).to(at::kHalf);
  const at::Tensor target = at::tensor({0, 1, 2, 3, 4, 0}, at::kLong);
  const at::Tensor losses = example_losses("cross_entropy", output, target);
  EXPECT_EQ(losses.scalar_type(), at::kFloat);
  for (int64_t n = 0; n < 6; ++n)
    EXPECT_NEAR(losses[n].item<double>(), naive_loss(output[n], target[n].item<int64_t>()), 8 * 1.2e-7 * 6);
}

TEST(Loss, NamesTheExampleWhoseTargetIsOutsideTheClasses) {
  EXPECT_THAT(input_error_of([] {
                example_losses("cross_entropy", values({3, 4}), at::tensor({1, 9, 2}, at::kLong));
              }),
              AllOf(HasSubstr("target 9 of example 1"), HasSubstr("4 classes")));
  const at::Tensor tokens = at::tensor({0, 1, 2, 4}, at::kLong).view({2, 2});
  EXPECT_THAT(input_error_of([&] {
                example_losses("cross_entropy", values({2, 2, 4}), tokens);
              }),
              HasSubstr("target 4 of example 1"));
}

TEST(Loss, NamesTheExampleWhoseOutputIsNotFinite) {
  for (const float bad : {NAN, INFINITY}) {
    at::Tensor output = values({3, 4});
    output[2][1] = bad;
    EXPECT_THAT(input_error_of([&] { example_losses("cross_entropy", output, at::zeros({3}, at::kLong)); }),
                AllOf(HasSubstr("example 2"), HasSubstr("not finite")));
  }
}

TEST(Loss, RefusesShapesThatDoNotFit) {
  const auto refusal = [](at::IntArrayRef output, at::IntArrayRef target) {
    return input_error_of([&] { example_losses("cross_entropy", values(output), at::zeros(target, at::kLong)); });
  };
  EXPECT_THAT(refusal({3, 4}, {4}), HasSubstr("do not fit"));
  EXPECT_THAT(refusal({3, 4}, {3, 4}), HasSubstr("do not fit"));
  EXPECT_THAT(refusal({3, 2, 4}, {3}), HasSubstr("do not fit"));
  EXPECT_THAT(refusal({4}, {4}), HasSubstr("do not fit"));
  EXPECT_THAT(input_error_of([] {
                example_losses("cross_entropy", values({3, 4}), at::zeros({3}));
              }),
              HasSubstr("int64"));
}

TEST(Loss, NamesTheNearestLossForAnUnknownOne) {
  EXPECT_THAT(input_error_of([] {
                example_losses("cross_entropi", values({1, 2}), at::zeros({1}, at::kLong));
              }),
              HasSubstr("'cross_entropy'"));
}

}  // namespace
}  // namespace amalgam
