#include "models/labels.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "expect_error.h"
#include "tests/models/tap_models.h"

namespace amalgam {
namespace {

using test::numbers;
using ::testing::HasSubstr;

TEST(LabelMode, IsReadFromItsName) {
  for (const LabelMode mode : {LabelMode::kTrue, LabelMode::kSampled, LabelMode::kExact})
    EXPECT_EQ(label_mode_from_name(name_of(mode)), mode);
  EXPECT_THAT(input_error_of([] { label_mode_from_name("sample"); }), ::testing::HasSubstr("sampled"));
}

TEST(SampledTargets, AreTheSameWhateverTheBatch) {
  const at::Tensor output = numbers({8, 5, 4}, 1), target = at::zeros({8, 5}, at::kLong), ids = at::arange(8) + 30;
  const RandomStream stream(1, "labels/left");
  const at::Tensor all = sampled_targets({}, output, target, ids, stream);
  for (int64_t n = 0; n < 8; ++n) {
    const at::Tensor one =
        sampled_targets({}, output.narrow(0, n, 1), target.narrow(0, n, 1), ids.narrow(0, n, 1), stream);
    EXPECT_TRUE(at::equal(one, all.narrow(0, n, 1)));
  }
}

TEST(SampledTargets, FollowTheModelsDistribution) {
  const at::Tensor probability = at::tensor({0.5, 0.3, 0.2}, at::kDouble);
  const int64_t draws = 20000;
  const at::Tensor output = probability.log().expand({draws, 3});
  const at::Tensor drawn =
      sampled_targets({}, output, at::zeros({draws}, at::kLong), at::arange(draws), RandomStream(7, "labels/left"));
  const at::Tensor share = at::bincount(drawn, {}, 3).to(at::kDouble) / static_cast<double>(draws);
  // Five standard deviations of a share.
  EXPECT_LT((share - probability).abs().max().item<double>(), 5 * std::sqrt(0.25 / static_cast<double>(draws)));
}

TEST(SampledTargets, KeepIgnoredTargetsIgnored) {
  const at::Tensor target = at::tensor({0, -100, 2, -1, 1, 1}, at::kLong).view({2, 3});
  const at::Tensor drawn =
      sampled_targets({}, numbers({2, 3, 4}, 1), target, at::arange(2), RandomStream(1, "labels/left"));
  EXPECT_TRUE(at::equal(drawn.lt(0), target.lt(0)));
  EXPECT_TRUE(drawn.lt(4).all().item<bool>());
}

TEST(SampledTargets, NeverLeaveTheClassesWhereOneClassHasAllProbability) {
  const at::Tensor output = at::tensor({-1e4, 1e4, -1e4}, at::kDouble).expand({100, 3});
  const at::Tensor drawn =
      sampled_targets({}, output, at::zeros({100}, at::kLong), at::arange(100), RandomStream(1, "labels/left"));
  EXPECT_TRUE(drawn.eq(1).all().item<bool>());
}

TEST(ExactLabels, TakeAPassAClassAndPositionOrAComponentAndAreRefusedForTooMany) {
  EXPECT_EQ(label_passes(LabelMode::kExact, {}, at::zeros({2, 10})), 10);
  EXPECT_EQ(label_passes(LabelMode::kExact, {}, at::zeros({2, 3, 10})), 30);
  EXPECT_EQ(label_passes(LabelMode::kExact, "binary_cross_entropy", at::zeros({4})), 1);
  EXPECT_EQ(label_passes(LabelMode::kExact, "mean_squared_error", at::zeros({4, 6})), 6);
  EXPECT_EQ(label_passes(LabelMode::kSampled, {}, at::zeros({2, 3, 1000})), 1);
  EXPECT_THAT(input_error_of([] {
                label_passes(LabelMode::kExact, {}, at::zeros({2, 11, 91}));
              }),
              ::testing::AllOf(HasSubstr("at most 1000"), HasSubstr("has 1001"), HasSubstr("labels: sampled")));
}

TEST(ExactLabels, WeighTheLossOfEachClassByTheRootOfItsProbability) {
  const at::Tensor output = numbers({4, 3}, 1);
  Batch batch = test::make_batch({numbers({4, 2}, 2)}, 3, {4});
  batch.target[2] = -1;
  const RandomStream stream(1, "labels/left");
  const at::Tensor p = output.softmax(1).index_select(0, at::tensor({0, 1, 3}));
  for (int64_t c = 0; c < 3; ++c) {
    const double loss = label_loss(LabelMode::kExact, c, "cross_entropy", output, batch, stream).item<double>();
    const double expected = (-p.select(1, c).log() * p.select(1, c).sqrt()).sum().item<double>();
    EXPECT_NEAR(loss, expected, 1e-14 * std::abs(expected));
  }
}

/// Σ over passes of g gᵀ of one example, g the gradient of the pass by the example's output. [K, K]
at::Tensor exact_fisher(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target, int64_t example) {
  Batch batch;
  batch.target = target;
  batch.count = target.size(0);
  const at::Tensor f = output.clone().requires_grad_();
  at::Tensor sum;
  for (int64_t pass = 0; pass < label_passes(LabelMode::kExact, loss, f); ++pass) {
    const at::Tensor scalar = label_loss(LabelMode::kExact, pass, loss, f, batch, RandomStream(1, ""));
    const at::Tensor g = torch::autograd::grad({scalar}, {f})[0][example].flatten();
    sum = sum.defined() ? sum + g.outer(g) : g.outer(g);
  }
  return sum;
}

TEST(Labels, AreThoseOfTheOutputOverTheTemperature) {
  const at::Tensor output = numbers({4, 3}, 1);
  const Batch batch = test::make_batch({numbers({4, 2}, 2)}, 3, {4});
  const RandomStream stream(1, "labels/left");
  for (const LabelMode mode : {LabelMode::kTrue, LabelMode::kSampled, LabelMode::kExact}) {
    const at::Tensor tempered = label_loss(mode, 0, "cross_entropy", output, batch, stream, 4.0),
                     divided = label_loss(mode, 0, "cross_entropy", output / 4.0, batch, stream);
    EXPECT_TRUE(at::equal(tempered, divided)) << name_of(mode);
  }
}

TEST(Labels, OfATemperatureGiveAFittedExampleAGradient) {
  const auto gradient = [](double temperature) {
    const at::Tensor f = at::tensor({30.0, 0.0, 0.0}, at::kDouble).unsqueeze(0).requires_grad_();
    const Batch batch = test::make_batch({numbers({1, 2}, 2)}, 1, {1});
    const at::Tensor loss =
        label_loss(LabelMode::kTrue, 0, "cross_entropy", f, batch, RandomStream(1, ""), temperature);
    return torch::autograd::grad({loss}, {f})[0].abs().max().item<double>();
  };
  EXPECT_LT(gradient(1.0), 1e-12);
  const double p = 1 / (1 + 2 * std::exp(-3.0));  // of the target at temperature 10
  EXPECT_NEAR(gradient(10.0), (1 - p) / 10, 1e-15);
}

TEST(Labels, OfValuesHaveNoTemperature) {
  EXPECT_THAT(input_error_of([] { check_temperature(2.0, "mean_squared_error", "statistics.temperature"); }),
              ::testing::AllOf(HasSubstr("statistics.temperature"), HasSubstr("mean_squared_error")));
  check_temperature(1.0, "mean_squared_error", "");
  check_temperature(2.0, "binary_cross_entropy", "");
}

TEST(ExactLabels, OfTokensAddUpToTheFisherOfIndependentPositions) {
  const at::Tensor output = numbers({2, 3, 4}, 1);
  const at::Tensor target = at::tensor({0, -1, 3, 1, 1, 2}, at::kLong).view({2, 3});
  at::Tensor expected = at::zeros({12, 12}, at::kDouble);  // blocks diag(p) − p pᵀ of the positions that count
  for (const int64_t t : {0, 2}) {
    const at::Tensor p = output[0][t].softmax(0);
    expected.narrow(0, 4 * t, 4).narrow(1, 4 * t, 4).copy_(p.diag() - p.outer(p));
  }
  EXPECT_TRUE(test::nearly_equal(exact_fisher({}, output, target, 0), expected));
}

TEST(ExactLabels, OfBinaryLabelsAddUpToTheirVariances) {
  const at::Tensor output = numbers({3, 4}, 1, 30.0), p = output[2].sigmoid();  // some logits are large
  const at::Tensor expected = (p * (-output[2]).sigmoid()).diag();
  EXPECT_TRUE(test::nearly_equal(exact_fisher("binary_cross_entropy", output, at::zeros({3, 4}), 2), expected));
}

TEST(ExactLabels, OfValuesAddUpToTheIdentity) {
  const at::Tensor sum = exact_fisher("mean_squared_error", numbers({3, 4}, 1), at::zeros({3, 4}), 1);
  EXPECT_TRUE(at::equal(sum, at::eye(4, at::kDouble)));
}

TEST(ExactLabels, OfAMeanOverTargetsAreDividedByTheSquareOfTheirNumber) {
  const at::Tensor output = numbers({2, 3, 4}, 1);
  const at::Tensor target = at::tensor({0, -1, 3, 1, 1, 2}, at::kLong).view({2, 3});
  LossSpec mean;
  mean.targets = "mean";
  EXPECT_TRUE(
      test::nearly_equal(exact_fisher(mean, output, target, 0), exact_fisher({}, output, target, 0) / 4));  // two count
}

TEST(ExactAndSampledLabels, TakeNoSmoothing) {
  const at::Tensor output = numbers({4, 3}, 1);
  const Batch batch = test::make_batch({numbers({4, 2}, 2)}, 3, {4});
  LossSpec smoothed;
  smoothed.label_smoothing = 0.3;
  for (const LabelMode mode : {LabelMode::kSampled, LabelMode::kExact})
    EXPECT_TRUE(at::equal(label_loss(mode, 0, smoothed, output, batch, RandomStream(1, "labels/left")),
                          label_loss(mode, 0, {}, output, batch, RandomStream(1, "labels/left"))));
}

TEST(SampledTargets, OfLabelsAndValuesAreTheSameWhateverTheBatch) {
  const at::Tensor output = numbers({8, 5}, 1), target = at::zeros({8, 5}), ids = at::arange(8) + 30;
  const RandomStream stream(1, "labels/left");
  for (const char* loss : {"binary_cross_entropy", "mean_squared_error"}) {
    const at::Tensor all = sampled_targets(loss, output, target, ids, stream);
    for (int64_t n = 0; n < 8; ++n)
      EXPECT_TRUE(
          at::equal(sampled_targets(loss, output.narrow(0, n, 1), target.narrow(0, n, 1), ids.narrow(0, n, 1), stream),
                    all.narrow(0, n, 1)))
          << loss;
  }
}

TEST(SampledTargets, OfLabelsFollowTheLogits) {
  const int64_t draws = 20000;
  const at::Tensor p = at::tensor({0.1, 0.5, 0.8}, at::kDouble);
  const at::Tensor drawn = sampled_targets("binary_cross_entropy", p.logit().expand({draws, 3}), at::zeros({draws, 3}),
                                           at::arange(draws), RandomStream(7, "labels/left"));
  EXPECT_TRUE(drawn.eq(0).logical_or(drawn.eq(1)).all().item<bool>());
  // Five standard deviations of a share.
  EXPECT_LT((drawn.mean(0) - p).abs().max().item<double>(), 5 * std::sqrt(0.25 / static_cast<double>(draws)));
}

TEST(SampledTargets, OfValuesAreAGaussianOfUnitVarianceAroundTheOutput) {
  const int64_t draws = 20000;
  const at::Tensor centre = at::tensor({-3.0, 1e6}, at::kDouble).expand({draws, 2});
  const at::Tensor noise = sampled_targets("mean_squared_error", centre, at::zeros({draws, 2}), at::arange(draws),
                                           RandomStream(7, "labels/left")) -
                           centre;
  const double deviation = 1 / std::sqrt(static_cast<double>(draws));
  EXPECT_LT(noise.mean(0).abs().max().item<double>(), 5 * deviation);
  EXPECT_LT((noise.square().mean(0) - 1).abs().max().item<double>(), 5 * std::sqrt(2.0) * deviation);
  EXPECT_LT((noise.select(1, 0) * noise.select(1, 1)).mean().abs().item<double>(), 5 * deviation);
}

TEST(SampledTargets, OfValuesAreNotRoundedAwayByALargeFloat32Output) {
  const at::Tensor output = at::full({1, 2}, 1e8F).requires_grad_();
  Batch batch;
  batch.target = at::zeros({1, 2});
  batch.ids = at::tensor({4}, at::kLong);
  const RandomStream stream(7, "labels/left");
  label_loss(LabelMode::kSampled, 0, "mean_squared_error", output, batch, stream).backward();
  // The gradient is −noise; noise is rounded where it is added to 1e8, in float64.
  for (int64_t k = 0; k < 2; ++k)
    EXPECT_NEAR(output.grad()[0][k].item<double>(), -stream.normal(4, static_cast<uint64_t>(k)), 1e-7);
}

}  // namespace
}  // namespace amalgam
