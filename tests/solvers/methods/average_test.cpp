#include "solvers/methods/average.h"

#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

TEST(Average, IsTheWeightedMean) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b"});
  merge_case.experts[0]["p"] = at::tensor({1.0, 2.0}, at::kDouble);
  merge_case.experts[1]["p"] = at::tensor({5.0, -2.0}, at::kDouble);
  merge_case.weights = {3.0, 1.0};
  merge_case.build();
  EXPECT_TRUE(at::allclose(merge_case.merge("average").merged.at("p"), at::tensor({2.0, 1.0}, at::kDouble), 0, 1e-15));
}

TEST(Average, OfCopiesOfOneExpertIsThatExpertToTheBit) {
  MergeCase merge_case;
  merge_case.parameter("p", {50});
  merge_case.draw({"a", "b", "c"});
  for (auto& expert : merge_case.experts) expert["p"] = merge_case.experts[0]["p"].to(at::kFloat);
  merge_case.base["p"] = merge_case.base["p"].to(at::kFloat);
  merge_case.weights = {0.3, 0.1, 7.0};
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("average").merged.at("p"), merge_case.experts[0]["p"]));
}

TEST(Average, LeavesOutExpertsOfWeightZero) {
  MergeCase merge_case;
  merge_case.parameter("p", {5});
  merge_case.draw({"a", "b"});
  merge_case.weights = {0.0, 2.0};
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("average").merged.at("p"), merge_case.experts[1]["p"]));
}

TEST(WeightedMean, CountsAllAlikeWhereNoWeightIsPositive) {
  const std::vector<at::Tensor> tensors{at::tensor({1.0}), at::tensor({4.0})};
  const auto get = [&](size_t m) { return tensors[m]; };
  EXPECT_FLOAT_EQ(WeightedMean({-1.0, -3.0})(get).item<float>(), 2.5F);
  EXPECT_FLOAT_EQ(WeightedMean({-1.0, 3.0})(get).item<float>(), 4.0F);
}

}  // namespace
}  // namespace amalgam
