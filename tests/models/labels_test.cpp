#include "models/labels.h"

#include <gtest/gtest.h>

#include <cmath>

#include "expect_error.h"
#include "tests/models/tap_models.h"

namespace amalgam {
namespace {

using test::numbers;

TEST(LabelMode, IsReadFromItsName) {
  for (const LabelMode mode : {LabelMode::kTrue, LabelMode::kSampled, LabelMode::kExact})
    EXPECT_EQ(label_mode_from_name(name_of(mode)), mode);
  EXPECT_THAT(input_error_of([] { label_mode_from_name("sample"); }), ::testing::HasSubstr("sampled"));
}

TEST(SampledTargets, AreTheSameWhateverTheBatch) {
  const at::Tensor output = numbers({8, 5, 4}, 1), target = at::zeros({8, 5}, at::kLong), ids = at::arange(8) + 30;
  const RandomStream stream(1, "labels/left");
  const at::Tensor all = sampled_targets(output, target, ids, stream);
  for (int64_t n = 0; n < 8; ++n) {
    const at::Tensor one = sampled_targets(output.narrow(0, n, 1), target.narrow(0, n, 1), ids.narrow(0, n, 1), stream);
    EXPECT_TRUE(at::equal(one, all.narrow(0, n, 1)));
  }
}

TEST(SampledTargets, FollowTheModelsDistribution) {
  const at::Tensor probability = at::tensor({0.5, 0.3, 0.2}, at::kDouble);
  const int64_t draws = 20000;
  const at::Tensor output = probability.log().expand({draws, 3});
  const at::Tensor drawn =
      sampled_targets(output, at::zeros({draws}, at::kLong), at::arange(draws), RandomStream(7, "labels/left"));
  const at::Tensor share = at::bincount(drawn, {}, 3).to(at::kDouble) / static_cast<double>(draws);
  // Five standard deviations of a share.
  EXPECT_LT((share - probability).abs().max().item<double>(), 5 * std::sqrt(0.25 / static_cast<double>(draws)));
}

TEST(SampledTargets, KeepIgnoredTargetsIgnored) {
  const at::Tensor target = at::tensor({0, -100, 2, -1, 1, 1}, at::kLong).view({2, 3});
  const at::Tensor drawn =
      sampled_targets(numbers({2, 3, 4}, 1), target, at::arange(2), RandomStream(1, "labels/left"));
  EXPECT_TRUE(at::equal(drawn.lt(0), target.lt(0)));
  EXPECT_TRUE(drawn.lt(4).all().item<bool>());
}

TEST(SampledTargets, NeverLeaveTheClassesWhereOneClassHasAllProbability) {
  const at::Tensor output = at::tensor({-1e4, 1e4, -1e4}, at::kDouble).expand({100, 3});
  const at::Tensor drawn =
      sampled_targets(output, at::zeros({100}, at::kLong), at::arange(100), RandomStream(1, "labels/left"));
  EXPECT_TRUE(drawn.eq(1).all().item<bool>());
}

TEST(ExactLabels, AreRefusedForTokensAndForManyClasses) {
  EXPECT_EQ(label_passes(LabelMode::kExact, at::zeros({2, 10})), 10);
  EXPECT_EQ(label_passes(LabelMode::kSampled, at::zeros({2, 3, 10})), 1);
  EXPECT_THAT(input_error_of([] {
                label_passes(LabelMode::kExact, at::zeros({2, 3, 10}));
              }),
              ::testing::HasSubstr("labels: sampled"));
  EXPECT_THAT(input_error_of([] {
                label_passes(LabelMode::kExact, at::zeros({2, 1001}));
              }),
              ::testing::HasSubstr("at most 1000"));
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

}  // namespace
}  // namespace amalgam
