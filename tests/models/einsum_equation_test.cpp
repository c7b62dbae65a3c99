#include "models/einsum_equation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace amalgam {
namespace {

using ::testing::ElementsAre;

const at::Tensor kWeight = at::zeros({5, 4});  // [out, in]

TEST(ProductAxes, SplitTheWeightsIntoSummedOnesAndUnits) {
  const auto axes = product_axes("bti,oi->bto", kWeight, at::zeros({2, 3, 4}), false);
  ASSERT_TRUE(axes);
  EXPECT_THAT(axes->weight_units, ElementsAre(0));
  EXPECT_THAT(axes->output_units, ElementsAre(2));
  EXPECT_THAT(axes->weight_sums, ElementsAre(1));
  EXPECT_THAT(axes->input_sums, ElementsAre(2));
  EXPECT_THAT(axes->input_lead, ElementsAre(0, 1));
}

TEST(ProductAxes, FollowTheOrderOfTheOutput) {
  const auto axes = product_axes("oi, bit -> tob", kWeight, at::zeros({2, 4, 3}), true);
  ASSERT_TRUE(axes);
  EXPECT_THAT(axes->output_units, ElementsAre(1));
  EXPECT_THAT(axes->input_sums, ElementsAre(1));
  EXPECT_THAT(axes->input_lead, ElementsAre(2, 0));
}

TEST(ProductAxes, StandUnderDotsAndWithoutAnArrow) {
  const auto dots = product_axes("...i,io->...o", kWeight.t(), at::zeros({2, 3, 6, 4}), false);
  ASSERT_TRUE(dots);
  EXPECT_THAT(dots->weight_units, ElementsAre(1));
  EXPECT_THAT(dots->output_units, ElementsAre(3));
  EXPECT_THAT(dots->input_lead, ElementsAre(0, 1, 2));
  const auto implicit = product_axes("...i,ia", kWeight.t(), at::zeros({2, 3, 4}), false);
  ASSERT_TRUE(implicit);
  EXPECT_THAT(implicit->output_units, ElementsAre(2));
  EXPECT_THAT(implicit->input_lead, ElementsAre(0, 1));
}

TEST(ProductAxes, OfAWeightInSeveralAxesAreInTheOrderOfItsMemory) {
  const at::Tensor weight = at::zeros({2, 3, 4}).permute({1, 2, 0});  // memory: h d i, here d i h
  const auto axes = product_axes("bi,dih->bdh", weight, at::zeros({5, 4}), false);
  ASSERT_TRUE(axes);
  EXPECT_THAT(axes->weight_units, ElementsAre(2, 0));
  EXPECT_THAT(axes->output_units, ElementsAre(2, 1));
}

TEST(ProductAxes, AreNoneWhereItIsNoProductWithAMatrix) {
  const at::Tensor input = at::zeros({5, 4});
  EXPECT_FALSE(product_axes("oi,oi->oi", kWeight, input, true)) << "an axis that all three have";
  EXPECT_FALSE(product_axes("oi,bi->b", kWeight, input, true)) << "units that are summed";
  EXPECT_FALSE(product_axes("oi,bi->o", kWeight, input, true)) << "examples that are summed";
  EXPECT_FALSE(product_axes("ii,bi->bi", at::zeros({4, 4}), input, true)) << "a diagonal";
  EXPECT_FALSE(product_axes("oi,bj->obij", kWeight, input, true)) << "an outer product";
  EXPECT_FALSE(product_axes("oi,bi->bo", kWeight, at::zeros({5, 1}), true)) << "an axis that is broadcast";
  EXPECT_FALSE(product_axes("...i,bi->b...", kWeight, input, true)) << "dots in the weight";
}

}  // namespace
}  // namespace amalgam
