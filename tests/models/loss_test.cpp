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

TEST(Loss, SmoothsLabelsAsTorchDefinesIt) {
  const at::Tensor output = values({2, 3, 4});
  const at::Tensor target = at::tensor({3, -1, 0, 2, 1, -100}, at::kLong).view({2, 3});
  LossSpec loss;
  loss.label_smoothing = 0.2;
  const at::Tensor losses = example_losses(loss, output, target);
  for (int64_t n = 0; n < 2; ++n) {
    double expected = 0;
    for (int64_t t = 0; t < 3; ++t) {
      const int64_t y = target[n][t].item<int64_t>();
      if (y < 0) continue;
      expected += 0.8 * naive_loss(output[n][t], y);
      for (int64_t c = 0; c < 4; ++c) expected += 0.2 / 4 * naive_loss(output[n][t], c);
    }
    EXPECT_NEAR(losses[n].item<double>(), expected, 1e-14);
  }
}

TEST(Loss, OfLabelsIsTheNegativeLogLikelihoodOfEach) {
  const at::Tensor output = values({3, 4}).mul(5);
  const at::Tensor target = at::tensor({0., 1., 1., 0., 0.25, 1., 0., 0.5, 1., 1., 0., 0.}, at::kDouble).view({3, 4});
  const at::Tensor losses = example_losses("binary_cross_entropy", output, target);
  ASSERT_EQ(losses.sizes(), at::IntArrayRef({3}));
  for (int64_t n = 0; n < 3; ++n) {
    double expected = 0;
    for (int64_t k = 0; k < 4; ++k) {
      const double f = output[n][k].item<double>(), y = target[n][k].item<double>();
      expected += y * std::log1p(std::exp(-f)) + (1 - y) * std::log1p(std::exp(f));
    }
    EXPECT_NEAR(losses[n].item<double>(), expected, 1e-13);
  }
}

TEST(Loss, OfLabelsTakesIntegersAndOneLabelAnExample) {
  const at::Tensor output = values({4});
  const at::Tensor losses = example_losses("binary_cross_entropy", output, at::tensor({1, 0, 0, 1}, at::kLong));
  ASSERT_EQ(losses.sizes(), at::IntArrayRef({4}));
  for (int64_t n = 0; n < 4; ++n) {
    const double f = output[n].item<double>();
    EXPECT_NEAR(losses[n].item<double>(), std::log1p(std::exp(n == 0 || n == 3 ? -f : f)), 1e-14);
  }
}

TEST(Loss, OfValuesIsHalfTheSquaredDistance) {
  const at::Tensor output = at::tensor({1., 2., 3., -1.}).view({2, 2}),
                   target = at::tensor({0., 4., 3., 2.}).view({2, 2});
  EXPECT_TRUE(at::equal(example_losses("mean_squared_error", output, target), at::tensor({2.5, 4.5})));
  EXPECT_TRUE(
      at::equal(example_losses("mean_squared_error", output.select(1, 0), target.select(1, 0)), at::tensor({0.5, 0.})));
}

TEST(Loss, IsDividedByTheTargetsThatCountWhereAskedTo) {
  const at::Tensor output = values({2, 3, 4});
  const at::Tensor target = at::tensor({3, -1, 0, -1, -1, -1}, at::kLong).view({2, 3});
  LossSpec mean;
  mean.targets = "mean";
  const at::Tensor sums = example_losses({}, output, target), means = example_losses(mean, output, target);
  EXPECT_EQ(means[0].item<double>(), sums[0].item<double>() / 2);
  EXPECT_EQ(means[1].item<double>(), 0);
  EXPECT_EQ(loss_terms({}, target).item<int64_t>(), 2);
  EXPECT_EQ(loss_terms(mean, target).item<int64_t>(), 1);
  mean.name = "mean_squared_error";
  EXPECT_TRUE(at::equal(example_losses(mean, at::ones({2, 5}), at::zeros({2, 5})), at::full({2}, 0.5)));
}

TEST(Loss, NamesTheExampleAndTheValueOfABadTarget) {
  at::Tensor target = at::zeros({3, 2});
  target[2][1] = 1.5;
  EXPECT_THAT(input_error_of([&] {
                example_losses("binary_cross_entropy", values({3, 2}), target);
              }),
              AllOf(HasSubstr("target 1.5 of example 2"), HasSubstr("0 to 1")));
  for (const double bad : {-1.0, static_cast<double>(NAN)}) {
    target[2][1] = bad;
    EXPECT_THAT(input_error_of([&] {
                  example_losses("binary_cross_entropy", values({3, 2}), target);
                }),
                HasSubstr("example 2"));
  }
  EXPECT_THAT(input_error_of([&] {
                example_losses("mean_squared_error", values({3, 2}), target);
              }),
              AllOf(HasSubstr("target nan of example 2"), HasSubstr("not finite")));
  try {
    example_losses("mean_squared_error", values({3, 2}), target);
    FAIL() << "accepted";
  } catch (const ExampleError& error) {
    EXPECT_EQ(error.position(), 2);
  }
}

TEST(Loss, OfLabelsAndValuesRefuseShapesThatAreBroadcast) {
  for (const char* loss : {"binary_cross_entropy", "mean_squared_error"})
    EXPECT_THAT(input_error_of([&] {
                  example_losses(loss, values({3, 1}), at::zeros({3}));
                }),
                AllOf(HasSubstr("[3, 1]"), HasSubstr("do not fit")));
  EXPECT_THAT(input_error_of([] { example_losses("mean_squared_error", values({3}), at::zeros({3}, at::kLong)); }),
              HasSubstr("floating targets"));
}

TEST(Loss, RefusesSmoothingWhereThereAreNoClasses) {
  LossSpec loss("mean_squared_error");
  loss.label_smoothing = 0.1;
  EXPECT_THAT(input_error_of([&] { check_loss(loss, "tasks.left.loss"); }),
              HasSubstr("tasks.left.loss.label_smoothing"));
  loss.label_smoothing = 0;
  check_loss(loss, "tasks.left.loss");
}

}  // namespace
}  // namespace amalgam
