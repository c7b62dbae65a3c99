#include "solvers/methods/sign_election.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

const std::vector<at::Tensor> changes{at::tensor({3.0F, 1.0F, -2.0F, 0.0F, 1.0F}),
                                      at::tensor({-1.0F, 2.0F, -4.0F, 0.0F, -1.0F})};

TEST(ElectedSign, IsThatOfTheWeightedSum) {
  EXPECT_TRUE(at::equal(elected_sign(changes, {1.0, 1.0}, 0), at::tensor({1.0F, 1.0F, -1.0F, 0.0F, 0.0F})));
  EXPECT_TRUE(at::equal(elected_sign(changes, {1.0, 4.0}, 0), at::tensor({-1.0F, 1.0F, -1.0F, 0.0F, -1.0F})));
}

TEST(ElectedSign, OfNothingIsWhatTheCallerSays) {
  EXPECT_TRUE(at::equal(elected_sign(changes, {1.0, 1.0}, 1), at::tensor({1.0F, 1.0F, -1.0F, 1.0F, 1.0F})));
  EXPECT_TRUE(at::equal(elected_sign(changes, {1.0, 1.0}, -1), at::tensor({1.0F, 1.0F, -1.0F, -1.0F, -1.0F})));
}

TEST(ElectedSign, NeedsAWeightForEachChange) { EXPECT_THROW(elected_sign(changes, {1.0}, 0), c10::Error); }

TEST(MeanOfAgreeing, LeavesOutZerosAndTheOtherSign) {
  const at::Tensor plus = at::ones({5}), minus = -plus;
  EXPECT_TRUE(at::equal(mean_of_agreeing(changes, {1.0, 1.0}, plus), at::tensor({3.0F, 1.5F, 0.0F, 0.0F, 1.0F})));
  EXPECT_TRUE(at::equal(mean_of_agreeing(changes, {1.0, 1.0}, minus), at::tensor({-1.0F, 0.0F, -3.0F, 0.0F, -1.0F})));
}

TEST(MeanOfAgreeing, IsWeighted) {
  EXPECT_TRUE(
      at::equal(mean_of_agreeing(changes, {1.0, 3.0}, at::ones({5})), at::tensor({3.0F, 1.75F, 0.0F, 0.0F, 1.0F})));
}

TEST(MeanOfAgreeing, DividesByNoLessThanTheFloor) {
  EXPECT_TRUE(at::equal(mean_of_agreeing(changes, {0.25, 0.25}, at::ones({5}), 0.5),
                        at::tensor({1.5F, 1.5F, 0.0F, 0.0F, 0.5F})));
}

}  // namespace
}  // namespace amalgam
