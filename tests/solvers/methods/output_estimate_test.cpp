#include "solvers/methods/output_estimate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::RandomMatrices;

TEST(ShrinkToTrace, FollowsTheFormulaAndKeepsTheTrace) {
  RandomMatrices random(3);
  for (const int64_t n : {2, 3, 7, 33}) {
    const at::Tensor given = random.gram(3, n, n + 4);
    at::Tensor shrunk = given.clone();
    const at::Tensor share = shrink_to_trace(shrunk, 50);
    for (int64_t item = 0; item < 3; ++item) {
      const at::Tensor s = given[item];
      const double t = s.trace().item<double>(), of_square = s.mm(s).trace().item<double>();
      const auto p = static_cast<double>(n);
      const double rho =
          std::min(1.0, ((1 - 2 / p) * of_square + t * t) / ((50 + 1 - 2 / p) * (of_square - t * t / p)));
      const double scale = s.abs().max().item<double>();
      EXPECT_NEAR(share[item].item<double>(), rho, 100 * p * kEps64);
      EXPECT_LE(difference(shrunk[item], (1 - rho) * s + rho * t / p * at::eye(n, at::kDouble)),
                100 * p * kEps64 * scale);
      EXPECT_NEAR(shrunk[item].trace().item<double>(), t, 100 * p * kEps64 * t);
    }
  }
}

TEST(ShrinkToTrace, LeavesAMultipleOfTheIdentityAndZeroAsTheyAre) {
  at::Tensor matrices = at::stack({3.0 * at::eye(4, at::kDouble), at::zeros({4, 4}, at::kDouble)});
  const at::Tensor given = matrices.clone(), share = shrink_to_trace(matrices, 10);
  EXPECT_TRUE(at::equal(matrices, given));
  EXPECT_TRUE(at::equal(share, at::ones({2}, at::kDouble)));
}

/// Of few Gaussian samples the shrunk matrix is nearer to the truth than the samples' own, and of many it is theirs.
TEST(ShrinkToTrace, IsNearerToTheTruthWhereSamplesAreFew) {
  RandomMatrices random(5);
  const at::Tensor root = random.normal({20, 20}) / std::sqrt(20.0) + at::eye(20, at::kDouble),
                   truth = root.mm(root.t());
  const auto of_samples = [&](int64_t count) {
    const at::Tensor x = random.normal({count, 20}).mm(root.t());
    return (x.t().mm(x) / count).unsqueeze(0);
  };
  const at::Tensor few = of_samples(15);
  at::Tensor shrunk = few.clone();
  EXPECT_GT(shrink_to_trace(shrunk, 15).item<double>(), 0.1);
  EXPECT_LT((shrunk[0] - truth).norm().item<double>(), 0.8 * (few[0] - truth).norm().item<double>());
  at::Tensor many = of_samples(100000);
  EXPECT_LT(shrink_to_trace(many, 100000).item<double>(), 1e-3);
}

TEST(PoolByTrace, MixesEachWithTheMeanOfAllAtUnitTrace) {
  RandomMatrices random(7);
  const at::Tensor a = random.gram(2, 3, 5), b = 10.0 * random.gram(2, 3, 5);
  const at::Tensor pooled_a = a.clone(), pooled_b = b.clone();
  pool_by_trace({pooled_a, pooled_b}, {1.0, 3.0}, 0.25);
  for (int64_t item = 0; item < 2; ++item) {
    const at::Tensor mean = (a[item] / a[item].trace() + 3.0 * b[item] / b[item].trace()) / 4.0;
    EXPECT_LE(difference(pooled_a[item], 0.75 * a[item] + 0.25 * a[item].trace() * mean), 20 * kEps64);
    EXPECT_LE(difference(pooled_b[item], 0.75 * b[item] + 0.25 * b[item].trace() * mean), 200 * kEps64);
  }
}

TEST(PoolByTrace, LeavesOutTasksWithoutWeightOrGradient) {
  RandomMatrices random(9);
  const at::Tensor a = random.gram(1, 3, 5), unweighted = random.gram(1, 3, 5),
                   silent = at::zeros({1, 3, 3}, at::kDouble);
  const at::Tensor pooled = a.clone(), pooled_unweighted = unweighted.clone(), pooled_silent = silent.clone();
  pool_by_trace({pooled, pooled_unweighted, pooled_silent}, {1.0, 0.0, 1.0}, 1.0);
  EXPECT_LE(difference(pooled, a), 20 * kEps64);
  EXPECT_LE(difference(pooled_unweighted, a / a[0].trace() * unweighted[0].trace()), 20 * kEps64);
  EXPECT_TRUE(at::equal(pooled_silent, silent));
}

}  // namespace
}  // namespace amalgam
