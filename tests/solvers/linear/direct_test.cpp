#include "solvers/linear/direct.h"

#include <gtest/gtest.h>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

TEST(SolveTwoTerms, MatchesADenseSolve) {
  RandomMatrices random(1);
  for (const size_t count : {1, 2})
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {3, 8}, {7, 5}}) {
      const auto terms = random.terms(count, 2, out, in);
      const at::Tensor rhs = random.normal({2, out, in}), start = random.normal({2, out, in});
      const Solution solution = solve_two_terms(KroneckerSum(terms), rhs, start, 1e-12);
      for (int64_t item = 0; item < 2; ++item) {
        EXPECT_TRUE(solution.items[static_cast<size_t>(item)].converged);
        const at::Tensor expected = at::linalg_solve(test::dense(terms, item), rhs[item].flatten());
        EXPECT_LE(difference(solution.x[item].flatten(), expected), 1e-9 * expected.norm().item<double>());
      }
    }
}

TEST(SolveTwoTerms, AgreesWithConjugateGradientsAtFullSize) {
  RandomMatrices random(2);
  const KroneckerSum op(random.terms(2, 1, 256, 192));
  const at::Tensor truth = random.normal({1, 256, 192});
  at::Tensor rhs = at::empty_like(truth);
  op.apply(truth, rhs);
  const at::Tensor zero = at::zeros_like(rhs);
  const Solution direct = solve_two_terms(op, rhs, zero, 1e-10);
  EXPECT_TRUE(direct.items[0].converged) << direct.items[0].residual;
  EXPECT_LE((direct.x - truth).norm().item<double>(), 1e-7 * truth.norm().item<double>());
  CgOptions options;
  options.iterations = 2000;
  options.tolerance = 1e-10;
  for (const std::string& name : preconditioner_names()) {
    const Solution iterated = solve(op, rhs, zero, make_preconditioner(name, op).get(), options);
    EXPECT_TRUE(iterated.items[0].converged) << name << " " << iterated.items[0].residual;
    EXPECT_LE((iterated.x - direct.x).norm().item<double>(), 1e-6 * truth.norm().item<double>()) << name;
    if (name == "two_term") {
      EXPECT_LE(iterated.items[0].iterations, 3);
    }
  }
}

TEST(SolveTwoTerms, KeepsTheStartWhereNothingIsSeen) {
  RandomMatrices random(3);
  const int64_t out = 4, in = 7;
  const std::vector<KroneckerTerm> terms{{1.0, random.gram(1, out, out, 0.1), random.gram(1, in, 2)},
                                         {1.0, random.gram(1, out, out, 0.1), random.gram(1, in, 3)}};
  const KroneckerSum op(terms);
  at::Tensor rhs = at::empty({1, out, in}, at::kDouble);
  op.apply(random.normal({1, out, in}), rhs);
  const at::Tensor start = random.normal({1, out, in});
  const Solution solution = solve_two_terms(op, rhs, start, 1e-10);
  EXPECT_TRUE(solution.items[0].converged) << solution.items[0].residual;
  EXPECT_LE(difference(op.null_part(solution.x), op.null_part(start)), 1e-9);
}

TEST(SolveTwoTerms, TakesAnIdentityForASecondTerm) {
  RandomMatrices random(4);
  const at::Tensor a = random.gram(1, 5, 2), b = random.gram(1, 3, 2), rhs = random.normal({1, 3, 5});
  const KroneckerSum op({1, 3, 5}, {{1.0, b, a}, {0.3, {}, {}}}, at::kDouble);
  const Solution solution = solve_two_terms(op, rhs, at::zeros_like(rhs), 1e-12);
  const at::Tensor matrix = at::kron(b[0], a[0]) + 0.3 * at::eye(15, at::kDouble);
  EXPECT_LE(difference(solution.x[0].flatten(), at::linalg_solve(matrix, rhs[0].flatten())), 1e-11);
}

TEST(SolveTwoTerms, RefusesThreeTerms) {
  const KroneckerSum op(RandomMatrices(5).terms(3, 1, 2, 2));
  const at::Tensor zero = at::zeros({1, 2, 2}, at::kDouble);
  EXPECT_THROW(solve_two_terms(op, zero, zero, 1e-6), c10::Error);
}

}  // namespace
}  // namespace amalgam
