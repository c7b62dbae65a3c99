#include "solvers/linear/refinement.h"

#include <gtest/gtest.h>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

std::vector<KroneckerTerm> in_float32(std::vector<KroneckerTerm> terms) {
  for (KroneckerTerm& term : terms) term = {term.weight, term.output.to(at::kFloat), term.input.to(at::kFloat)};
  return terms;
}

CgOptions options(int64_t iterations, double tolerance) {
  CgOptions result;
  result.iterations = iterations;
  result.tolerance = tolerance;
  return result;
}

struct Refined : testing::Test {
  RandomMatrices random{1};
  const std::vector<KroneckerTerm> terms = random.terms(3, 2, 9, 7);
  const KroneckerSum op{terms}, inner{in_float32(terms)};
  const at::Tensor rhs = random.normal({2, 9, 7}), start = random.normal({2, 9, 7});
};

TEST_F(Refined, ReachesWhatFloat32CannotAlone) {
  for (const char* name : {"none", "kronecker_trace", "two_term"}) {
    const Solution solution =
        solve_refined(op, inner, rhs, start, make_preconditioner(name, inner).get(), options(3000, 1e-12));
    for (int64_t item = 0; item < 2; ++item) {
      const ItemSummary& summary = solution.items[static_cast<size_t>(item)];
      EXPECT_TRUE(summary.converged) << name << ": " << summary.why << ", " << summary.residual;
      const at::Tensor error = rhs[item].flatten() - test::dense(terms, item).mv(solution.x[item].flatten());
      EXPECT_LE((error.norm() / rhs[item].norm()).item<double>(), 1.1e-12);
      EXPECT_NEAR(solution.history[summary.iterations][item].item<double>(), summary.residual, 1e-18);
    }
    EXPECT_EQ(solution.history.size(0), 1 + std::max(solution.items[0].iterations, solution.items[1].iterations));
  }
}

TEST_F(Refined, StopsAtTheIterationLimitOfAllRoundsTogether) {
  const Solution solution = solve_refined(op, inner, rhs, start, nullptr, options(7, 1e-12));
  EXPECT_LE(solution.items[0].iterations, 7);
  EXPECT_FALSE(solution.items[0].converged);
  EXPECT_EQ(solution.items[0].why, "iteration limit");
  EXPECT_TRUE(at::equal(solve_refined(op, inner, rhs, start, nullptr, options(0, 1e-12)).x, start));
}

TEST_F(Refined, SaysWhenARoundGainsNothing) {
  // Three times the operator: a round takes a third of the residual away.
  std::vector<KroneckerTerm> tripled = in_float32(terms);
  for (KroneckerTerm& term : tripled) term.weight *= 3;
  const KroneckerSum other(tripled);
  const Solution solution = solve_refined(op, other, rhs, start, nullptr, options(5000, 1e-10));
  for (const ItemSummary& item : solution.items) {
    EXPECT_FALSE(item.converged);
    EXPECT_GT(item.residual, 1e-10);
    EXPECT_NE(item.why.find("no longer halves"), std::string::npos) << item.why;
  }
}

TEST_F(Refined, KeepsTheStartWhereNothingIsSeen) {
  const std::vector<KroneckerTerm> low{{1.0, random.gram(1, 4, 4, 0.2), random.gram(1, 6, 3)}};
  const KroneckerSum exact(low), rounded(in_float32(low));
  at::Tensor b = at::empty({1, 4, 6}, at::kDouble);
  exact.apply(random.normal({1, 4, 6}), b);
  const at::Tensor from = random.normal({1, 4, 6});
  const Solution solution =
      solve_refined(exact, rounded, b, from, make_preconditioner("kronecker_trace", rounded).get(), options(500, 1e-9));
  EXPECT_TRUE(solution.items[0].converged) << solution.items[0].why;
  EXPECT_LE(test::difference(exact.null_part(solution.x), exact.null_part(from)), 1e-5);
}

TEST_F(Refined, RefusesOtherPrecisions) {
  EXPECT_THROW(solve_refined(op, op, rhs, start, nullptr, options(5, 1e-3)), c10::Error);
}

}  // namespace
}  // namespace amalgam
