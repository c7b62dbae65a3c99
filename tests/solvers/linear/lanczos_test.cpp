#include "solvers/linear/lanczos.h"

#include <gtest/gtest.h>

#include "solvers/linear/conjugate_gradient.h"
#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

TEST(ConditionEstimate, IsTheConditionNumberOnceAllDirectionsAreSeen) {
  RandomMatrices random(1);
  const auto terms = random.terms(2, 1, 3, 4);
  const KroneckerSum op(terms);
  const at::Tensor rhs = random.normal({1, 3, 4}), values = at::linalg_eigvalsh(test::dense(terms, 0));
  CgOptions options;
  options.tolerance = 1e-13;
  const Solution solution = solve(op, rhs, at::zeros_like(rhs), nullptr, options);
  ASSERT_TRUE(solution.items[0].condition.has_value());
  const double condition = (values[-1] / values[0]).item<double>();
  EXPECT_NEAR(*solution.items[0].condition, condition, 1e-4 * condition);
}

TEST(ConditionEstimate, IsNearOneWithAnExactPreconditioner) {
  RandomMatrices random(2);
  const KroneckerSum op(random.terms(2, 1, 4, 5));
  const at::Tensor rhs = random.normal({1, 4, 5});
  CgOptions options;
  options.tolerance = 0;
  options.iterations = 3;
  const Solution solution = solve(op, rhs, at::zeros_like(rhs), make_preconditioner("two_term", op).get(), options);
  ASSERT_TRUE(solution.items[0].condition.has_value());
  EXPECT_NEAR(*solution.items[0].condition, 1.0, 1e-6);
}

TEST(ConditionEstimate, NeedsTwoSteps) {
  const std::vector<double> alpha{0.5}, beta{0.1};
  EXPECT_FALSE(condition_estimate(alpha, beta).has_value());
  EXPECT_FALSE(condition_estimate({}, {}).has_value());
}

TEST(ConditionEstimate, OfOneStepSizeAndNoMixingIsOne) {
  const std::vector<double> alpha{0.5, 0.5, 0.5}, beta{0.0, 0.0, 0.0};
  EXPECT_DOUBLE_EQ(condition_estimate(alpha, beta).value(), 1.0);
}

}  // namespace
}  // namespace amalgam
