#include "solvers/search/cma_es_constants.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace amalgam {
namespace {

TEST(CmaEsConstants, AreThoseOfTheTutorialForTenDimensions) {  // worked out by hand from its table 1
  const CmaEsConstants c = cma_es_constants(10, 0, false);
  EXPECT_EQ(c.population, 10);
  EXPECT_EQ(c.parents, 5);
  EXPECT_NEAR(c.weights[0], 1.70475 / 3.73618, 1e-5);
  EXPECT_NEAR(c.effective, 3.1673, 1e-4);
  EXPECT_NEAR(c.step_rate, 0.28443, 1e-5);
  EXPECT_NEAR(c.step_damping, 1.28443, 1e-5);
  EXPECT_NEAR(c.path_rate, 0.29499, 1e-5);
  EXPECT_NEAR(c.rank_one_rate, 0.015284, 1e-6);
  EXPECT_NEAR(c.rank_mu_rate, 0.023552, 1e-6);
  EXPECT_NEAR(c.expected_norm, std::sqrt(10) * (1 - 1 / 40.0 + 1 / 2100.0), 1e-12);
}

TEST(CmaEsConstants, GrowTheDefaultPopulationWithTheLogarithmOfTheDimension) {
  for (const auto& [n, population] : {std::pair{1, 4}, {2, 6}, {5, 8}, {40, 15}, {400, 21}})
    EXPECT_EQ(cma_es_constants(n, 0, false).population, population) << n;
}

class CmaEsConstantsOf : public testing::TestWithParam<std::tuple<int64_t, int64_t, bool>> {};

TEST_P(CmaEsConstantsOf, KeepTheCovariancePositive) {
  const auto [n, population, separable] = GetParam();
  const CmaEsConstants c = cma_es_constants(n, population, separable);
  ASSERT_EQ(static_cast<int64_t>(c.weights.size()), c.population);
  const auto first_negative = c.weights.begin() + c.parents;
  EXPECT_NEAR(std::accumulate(c.weights.begin(), first_negative, 0.0), 1.0, 1e-12);
  EXPECT_TRUE(std::is_sorted(c.weights.rbegin(), c.weights.rend()));
  const double negative = std::accumulate(first_negative, c.weights.end(), 0.0);
  EXPECT_LE(negative, 0);
  EXPECT_LE(c.rank_one_rate + c.rank_mu_rate, 1 + 1e-12);
  // Even where all negative weight falls on one direction: 1 − c_1 − c_μ Σ w + c_μ n Σ w⁻ ≥ 0.
  const double kept = 1 - c.rank_one_rate - c.rank_mu_rate * (1 + negative);
  EXPECT_GE(kept + c.rank_mu_rate * static_cast<double>(n) * negative, -1e-12);
}

INSTANTIATE_TEST_SUITE_P(Sizes, CmaEsConstantsOf,
                         testing::Combine(testing::Values(1, 2, 3, 10, 17, 100, 1000), testing::Values(0, 3, 4, 7, 64),
                                          testing::Bool()));

TEST(CmaEsConstants, LearnADiagonalFaster) {
  const CmaEsConstants full = cma_es_constants(40, 0, false), diagonal = cma_es_constants(40, 0, true);
  EXPECT_NEAR(diagonal.rank_one_rate, 14 * full.rank_one_rate, 1e-12);
  EXPECT_NEAR(diagonal.rank_mu_rate, 14 * full.rank_mu_rate, 1e-12);
  EXPECT_EQ(diagonal.step_rate, full.step_rate);
}

}  // namespace
}  // namespace amalgam
