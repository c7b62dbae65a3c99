#include "solvers/methods/karcher.h"

#include <gtest/gtest.h>

#include <cmath>

#include "solvers/merge_case.h"
#include "solvers/methods/slerp.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps32;
using test::kEps64;
using test::MergeCase;

at::Tensor unit(const at::Tensor& x) { return x.flatten() / x.norm(); }

/// Σ a_i dist(u, u_i)².
double spread(const at::Tensor& u, const std::vector<at::Tensor>& units, const std::vector<double>& weights) {
  double sum = 0.0;
  for (size_t i = 0; i < units.size(); ++i) {
    const double distance = std::acos(std::clamp(u.dot(units[i]).item<double>(), -1.0, 1.0));
    sum += weights[i] * distance * distance;
  }
  return sum;
}

struct ThreeDirections : testing::Test {
  test::RandomMatrices random{3};
  std::vector<at::Tensor> units;
  const std::vector<double> weights{0.2, 0.5, 0.3};
  ThreeDirections() {
    const at::Tensor common = random.normal({11});
    for (int i = 0; i < 3; ++i) units.push_back(unit(common + random.normal({11})));
  }
};

TEST(KarcherMean, OfTwoIsTheirSphericalInterpolationInOneStep) {
  test::RandomMatrices random(4);
  const at::Tensor a = unit(random.normal({9})), b = unit(random.normal({9}));
  const KarcherMean mean = karcher_mean({a, b}, {0.3, 0.7}, 10, 1e-5);
  EXPECT_LE(difference(mean.direction, slerp(a, b, 0.7)), 16 * kEps64);
  EXPECT_EQ(mean.iterations, 1);
}

TEST_F(ThreeDirections, HaveAMeanThatAnyStepAwayMakesWorse) {
  const KarcherMean mean = karcher_mean(units, weights, 100, 1e-13);
  EXPECT_LT(mean.residual, 1e-13);
  const double least = spread(mean.direction, units, weights);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor away = unit(mean.direction + 1e-3 * random.normal({11}));
    EXPECT_GT(spread(away, units, weights), least + 1e-8);
  }
}

TEST_F(ThreeDirections, StopAtTheIterationLimitAndSayHowFarTheyAre) {
  const KarcherMean mean = karcher_mean(units, weights, 1, 0);
  EXPECT_EQ(mean.iterations, 1);
  EXPECT_GT(mean.residual, 1e-13);
}

TEST(KarcherMean, KeepsTheFirstOfAntipodalDirections) {
  const at::Tensor a = at::tensor({0.6, 0.8}, at::kDouble);
  EXPECT_TRUE(at::equal(karcher_mean({a, -a}, {0.5, 0.5}, 10, 1e-5).direction, a));
  EXPECT_LE(difference(karcher_mean({a, -a}, {0.25, 0.75}, 10, 1e-5).direction, -a), kEps64);
}

TEST(Karcher, ScalesTheMeanDirectionByTheMeanNorm) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b"});
  merge_case.experts[0]["p"] = at::tensor({2.0, 0.0}, at::kDouble);
  merge_case.experts[1]["p"] = at::tensor({0.0, 4.0}, at::kDouble);
  merge_case.weights = {2.0, 1.0};  // 30 of 90 degrees, norm (2·2 + 4)/3
  merge_case.build();
  const auto merged = merge_case.merge("karcher").merged.at("p");
  EXPECT_NEAR(merged[0].item<double>(), 8.0 / 3 * std::sqrt(0.75), 16 * kEps64);
  EXPECT_NEAR(merged[1].item<double>(), 8.0 / 3 * 0.5, 16 * kEps64);
}

TEST(Karcher, OfCopiesIsThatExpert) {
  for (const auto& [dtype, epsilon] : {std::pair{at::kFloat, kEps32}, {at::kBFloat16, 0x1p-8}}) {
    MergeCase merge_case;
    merge_case.parameter("p", {5, 3});
    merge_case.draw({"a", "b", "c"});
    for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
    merge_case.store_as(dtype);
    merge_case.build();
    EXPECT_LE(difference(merge_case.merge("karcher").merged.at("p"), merge_case.experts[0]["p"]), 2 * epsilon);
  }
}

TEST(Karcher, LetsAZeroTensorPullTheNormDownOnly) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.parameter("q", {2});
  merge_case.draw({"a", "b"});
  merge_case.experts[0]["p"] = at::tensor({3.0, 4.0}, at::kDouble);
  merge_case.experts[1]["p"].zero_();
  for (auto& expert : merge_case.experts) expert["q"].zero_();
  merge_case.build();
  const auto merged = merge_case.merge("karcher").merged;
  EXPECT_LE(difference(merged.at("p"), at::tensor({1.5, 2.0}, at::kDouble)), 8 * kEps64);
  EXPECT_TRUE(at::equal(merged.at("q"), at::zeros({2}, at::kDouble)));
}

TEST(Karcher, ReportsEveryParameter) {
  MergeCase merge_case;
  merge_case.parameter("p", {6});
  merge_case.parameter("q", {6});
  merge_case.draw({"a", "b", "c"});
  for (auto& expert : merge_case.experts)
    for (auto& [name, tensor] : expert) tensor = merge_case.random.normal({6});
  merge_case.build();
  const MergeReport report = merge_case.merge("{method: karcher, iterations: 1, tolerance: 0}").report;
  ASSERT_EQ(report.layers.size(), 2);
  EXPECT_EQ(report.layers[1].layer, "q");
  EXPECT_EQ(report.layers[1].iterations, 1);
  EXPECT_FALSE(report.layers[1].converged);
  EXPECT_EQ(report.layers[1].why, "iteration limit");
}

}  // namespace
}  // namespace amalgam
