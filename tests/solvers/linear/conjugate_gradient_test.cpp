#include "solvers/linear/conjugate_gradient.h"

#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <atomic>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

CgOptions options(int64_t iterations, double tolerance, int64_t check_every = 10) {
  CgOptions result;
  result.iterations = iterations;
  result.tolerance = tolerance;
  result.check_every = check_every;
  return result;
}

/// K x for float64 tensors, to make right-hand sides.
at::Tensor image(const LinearOperator& op, const at::Tensor& x) {
  at::Tensor out = at::empty_like(x);
  op.apply(x, out);
  return out;
}

TEST(ConjugateGradient, MatchesADenseSolveOfOddSizes) {
  RandomMatrices random(1);
  const double tolerance = 1e-12;
  for (int64_t out = 1; out <= 17; ++out) {
    const int64_t in = out * 5 % 17 + 1, items = 2;  // all of 1…17, square at one size only
    const size_t count = 1 + static_cast<size_t>(out % 3);
    const auto terms = random.terms(count, items, out, in);
    const KroneckerSum op(terms);
    const at::Tensor rhs = random.normal({items, out, in}), start = random.normal({items, out, in});
    std::vector<at::Tensor> expected;
    std::vector<double> condition;
    for (int64_t item = 0; item < items; ++item) {
      const at::Tensor matrix = test::dense(terms, item), eigenvalues = at::linalg_eigvalsh(matrix);
      expected.push_back(at::linalg_solve(matrix, rhs[item].flatten()).view({out, in}));
      condition.push_back((eigenvalues[-1] / eigenvalues[0]).item<double>());
    }
    for (const char* name : {"none", "kronecker_trace"}) {
      const auto preconditioner = make_preconditioner(name, op);
      const Solution solution = solve(op, rhs, start, preconditioner.get(), options(3000, tolerance));
      for (size_t item = 0; item < static_cast<size_t>(items); ++item) {
        SCOPED_TRACE(testing::Message() << out << "x" << in << ", " << count << " terms, " << name);
        EXPECT_TRUE(solution.items[item].converged);
        EXPECT_LE(difference(solution.x[static_cast<int64_t>(item)], expected[item]),
                  10 * tolerance * condition[item] * expected[item].norm().item<double>());
      }
    }
  }
}

TEST(ConjugateGradient, WithIdentityOutputFactorsGivesRegMean) {
  RandomMatrices random(2);
  const at::Tensor identity = at::eye(4, at::kDouble).unsqueeze(0);
  at::Tensor numerator = at::zeros({4, 6}, at::kDouble), denominator = at::zeros({6, 6}, at::kDouble);
  at::Tensor rhs = at::zeros({1, 4, 6}, at::kDouble);
  std::vector<KroneckerTerm> terms;
  for (int m = 0; m < 3; ++m) {
    const at::Tensor gram = random.gram(1, 6, 8, 0.1), weight = random.normal({1, 4, 6});
    terms.push_back({1.0, identity, gram});
    rhs += weight.bmm(gram);
    numerator += weight[0].mm(gram[0]);
    denominator += gram[0];
  }
  const Solution solution = solve(KroneckerSum(terms), rhs, at::zeros_like(rhs), nullptr, options(200, 1e-13));
  EXPECT_LE(difference(solution.x[0], numerator.mm(at::linalg_inv(denominator))), 1e-10);
}

TEST(ConjugateGradient, WithIdentityFactorsGivesTheAverageInOneStep) {
  RandomMatrices random(3);
  const at::Tensor out_identity = at::eye(3, at::kDouble).unsqueeze(0),
                   in_identity = at::eye(5, at::kDouble).unsqueeze(0);
  const at::Tensor first = random.normal({1, 3, 5}), second = random.normal({1, 3, 5});
  const KroneckerSum op({{1.0, out_identity, in_identity}, {3.0, out_identity, in_identity}});
  const Solution solution = solve(op, first + 3 * second, random.normal({1, 3, 5}), nullptr, options(100, 1e-13));
  EXPECT_EQ(solution.items[0].iterations, 1);
  EXPECT_LE(difference(solution.x, first / 4 + second * 0.75), 20 * test::kEps64);
}

TEST(ConjugateGradient, SolvesInFloat32) {
  RandomMatrices random(4);
  auto terms = random.terms(3, 2, 9, 6);
  const at::Tensor truth = random.normal({2, 9, 6});
  const KroneckerSum exact(terms);
  const at::Tensor rhs = image(exact, truth);
  for (auto& term : terms) term = {term.weight, term.output.to(at::kFloat), term.input.to(at::kFloat)};
  const KroneckerSum op(terms);
  const auto preconditioner = make_preconditioner("kronecker_trace", op);
  const Solution solution =
      solve(op, rhs.to(at::kFloat), at::zeros({2, 9, 6}), preconditioner.get(), options(300, 1e-5));
  EXPECT_EQ(solution.x.scalar_type(), at::kFloat);
  const at::Tensor error = image(exact, solution.x.to(at::kDouble)) - rhs;
  for (int64_t item = 0; item < 2; ++item) {
    EXPECT_TRUE(solution.items[static_cast<size_t>(item)].converged);
    EXPECT_LE((error[item].norm() / rhs[item].norm()).item<double>(), 2e-5);
  }
}

// --- The null space
// ---------------------------------------------------------------------------------------------------

/// P = the diagonal of some operator: unlike kronecker_trace it mixes a null space that is not along the axes with the
/// rest.
class DiagonalPreconditioner final : public Preconditioner {
 public:
  explicit DiagonalPreconditioner(at::Tensor diagonal) : diagonal_(std::move(diagonal)) {}
  void apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>&) const override {
    at::div_out(z, r, diagonal_);
  }

 private:
  at::Tensor diagonal_;
};

/// Hides what an operator knows of its null space.
class Forgetful final : public LinearOperator {
 public:
  explicit Forgetful(const LinearOperator& op) : op_(op) {}
  std::array<int64_t, 3> sizes() const override { return op_.sizes(); }
  at::TensorOptions options() const override { return op_.options(); }
  at::Tensor diagonal() const override { return op_.diagonal(); }

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const override {
    op_.apply(x, out, items);
  }

 private:
  const LinearOperator& op_;
};

struct NullSpaceCase : testing::Test {
  RandomMatrices random{5};
  const int64_t out = 3, in = 6;
  // Rank 2 + 2 of 6: two common null directions of the A_m; the B_m are regular.
  const std::vector<KroneckerTerm> terms{{1.0, random.gram(1, out, out, 0.5), random.gram(1, in, 2)},
                                         {1.0, random.gram(1, out, out, 0.5), random.gram(1, in, 2)}};
  const KroneckerSum op{terms};
  const at::Tensor matrix = test::dense(terms, 0);
  const at::Tensor rhs = image(op, random.normal({1, out, in})), start = random.normal({1, out, in});

  /// N [out*in, 6] spans the null space, from the dense matrix.
  at::Tensor null_basis() const {
    const auto [values, vectors] = at::linalg_eigh(matrix);
    return vectors.slice(1, 0, out * 2);
  }
  /// Pseudo-inverse solution in the range plus the start's part in the null space.
  at::Tensor expected() const {
    const at::Tensor basis = null_basis();
    const at::Tensor kept = basis.mv(basis.t().mv(start.flatten()));
    return (at::linalg_pinv(matrix, 1e-10).mv(rhs.flatten()) + kept).view({1, out, in});
  }
};

TEST_F(NullSpaceCase, PlainKeepsTheStartsPart) {
  const Solution solution = solve(op, rhs, start, nullptr, options(500, 1e-13));
  EXPECT_TRUE(solution.items[0].converged);
  EXPECT_LE(difference(solution.x, expected()), 1e-9);
}

TEST_F(NullSpaceCase, PreconditionedKeepsTheStartsPartToo) {
  const auto preconditioner = make_preconditioner("kronecker_trace", op);
  const Solution solution = solve(op, rhs, start, preconditioner.get(), options(500, 1e-13));
  EXPECT_LE(difference(solution.x, expected()), 1e-9);
  const DiagonalPreconditioner diagonal(op.diagonal());
  EXPECT_LE(difference(solve(op, rhs, start, &diagonal, options(500, 1e-13)).x, expected()), 1e-9);
}

TEST_F(NullSpaceCase, PreconditionedWithoutKnowledgeOfItKeepsTheOrthogonalPartOfThePreconditioner) {
  const DiagonalPreconditioner diagonal(op.diagonal());
  const Solution solution = solve(Forgetful(op), rhs, start, &diagonal, options(500, 1e-13));
  const at::Tensor change = (solution.x - start).flatten(), basis = null_basis();
  EXPECT_TRUE(solution.items[0].converged);
  EXPECT_LE((basis.t().mv(op.diagonal().flatten() * change)).abs().max().item<double>(), 1e-9);  // Nᵀ P (x − x0) = 0
  EXPECT_GT(basis.t().mv(change).abs().max().item<double>(), 1e-3);  // but Nᵀ (x − x0) ≠ 0
}

// --- What is not the plain course
// ---------------------------------------------------------------------------------------

TEST(ConjugateGradient, ReturnsTheStartAfterZeroIterations) {
  RandomMatrices random(6);
  const auto terms = random.terms(2, 2, 3, 4);
  const at::Tensor rhs = random.normal({2, 3, 4}), start = random.normal({2, 3, 4});
  for (const char* name : {"none", "kronecker_trace"}) {
    const KroneckerSum op(terms);
    const auto preconditioner = make_preconditioner(name, op);
    const Solution solution = solve(op, rhs, start, preconditioner.get(), options(0, 1e-5));
    EXPECT_TRUE(at::equal(solution.x, start));
    EXPECT_FALSE(solution.x.is_same(start));
    EXPECT_EQ(solution.history.size(0), 1);
    const at::Tensor error = rhs[1].flatten() - test::dense(terms, 1).mv(start[1].flatten());
    EXPECT_NEAR(solution.items[1].residual, (error.norm() / rhs[1].norm()).item<double>(), 1e-12);
    EXPECT_FALSE(solution.items[1].converged);
    EXPECT_EQ(solution.items[1].why, "iteration limit");
  }
}

TEST(ConjugateGradient, FreezesAnItemThatHasConverged) {
  RandomMatrices random(7);
  auto terms = random.terms(3, 3, 6, 7);
  for (auto& term : terms) {  // the second item is solved in one step
    term.output[1].copy_(at::eye(6, at::kDouble));
    term.input[1].copy_(at::eye(7, at::kDouble));
  }
  const KroneckerSum op(terms);
  const at::Tensor rhs = random.normal({3, 6, 7}), start = random.normal({3, 6, 7});
  const Solution all = solve(op, rhs, start, nullptr, options(60, 1e-9));
  ASSERT_EQ(all.items[1].iterations, 1);
  ASSERT_GT(all.items[0].iterations, 5);
  const Solution one = solve(op, rhs, start, nullptr, options(1, 1e-9));
  EXPECT_TRUE(at::equal(all.x[1], one.x[1]));
  EXPECT_FALSE(at::equal(all.x[0], one.x[0]));
  for (int64_t i = 1; i < all.history.size(0); ++i)
    EXPECT_EQ(all.history[i][1].item<double>(), one.history[1][1].item<double>());
}

TEST(ConjugateGradient, SolvesABatchAsItSolvesEachItem) {
  RandomMatrices random(8);
  const auto terms = random.terms(2, 4, 5, 3);
  const at::Tensor rhs = random.normal({4, 5, 3}), start = random.normal({4, 5, 3});
  const Solution batch = solve(KroneckerSum(terms), rhs, start, nullptr, options(50, 1e-10));
  for (int64_t item = 0; item < 4; ++item) {
    std::vector<KroneckerTerm> own;
    for (const auto& term : terms)
      own.push_back({term.weight, term.output.slice(0, item, item + 1), term.input.slice(0, item, item + 1)});
    const Solution single = solve(KroneckerSum(own), rhs.slice(0, item, item + 1), start.slice(0, item, item + 1),
                                  nullptr, options(50, 1e-10));
    EXPECT_EQ(single.items[0].iterations, batch.items[static_cast<size_t>(item)].iterations);
    EXPECT_LE(difference(single.x[0], batch.x[item]), 1e-11 * batch.x[item].norm().item<double>());
  }
}

TEST(ConjugateGradient, RefusesARightHandSideWithNaN) {
  RandomMatrices random(9);
  const KroneckerSum op(random.terms(1, 1, 2, 3));
  for (const double bad : {NAN, INFINITY}) {
    at::Tensor rhs = random.normal({1, 2, 3});
    rhs[0][1][2] = bad;
    EXPECT_THROW(solve(op, rhs, at::zeros_like(rhs), nullptr, {}), c10::Error);
    EXPECT_THROW(solve(op, at::zeros_like(rhs), rhs, nullptr, {}), c10::Error);
  }
}

TEST(ConjugateGradient, RefusesSizesThatDiffer) {
  RandomMatrices random(10);
  const KroneckerSum op(random.terms(1, 1, 2, 3));
  EXPECT_THROW(solve(op, random.normal({1, 3, 2}), random.normal({1, 2, 3}), nullptr, {}), c10::Error);
  EXPECT_THROW(solve(op, random.normal({1, 2, 3}), random.normal({1, 2, 3}).to(at::kFloat), nullptr, {}), c10::Error);
}

TEST(ConjugateGradient, GoesToZeroForAZeroRightHandSide) {
  RandomMatrices random(11);
  const KroneckerSum op(random.terms(2, 1, 3, 4));
  const at::Tensor zero = at::zeros({1, 3, 4}, at::kDouble);
  const Solution solution = solve(op, zero, random.normal({1, 3, 4}), nullptr, options(100, 1e-12));
  EXPECT_TRUE(solution.items[0].converged);
  EXPECT_LE(solution.x.abs().max().item<double>(), 1e-9);
  EXPECT_TRUE(at::equal(solve(op, zero, zero, nullptr, {}).x, zero));
}

TEST(ConjugateGradient, ReturnsTheStartForAZeroOperator) {
  const at::Tensor zero = at::zeros({1, 2, 2}, at::kDouble), start = RandomMatrices(12).normal({1, 2, 2});
  const KroneckerSum op({{1.0, zero, zero}});
  for (const char* name : {"none", "kronecker_trace"}) {
    const auto preconditioner = make_preconditioner(name, op);
    const Solution consistent = solve(op, zero, start, preconditioner.get(), {});
    EXPECT_TRUE(at::equal(consistent.x, start));
    EXPECT_TRUE(consistent.items[0].converged);
    EXPECT_EQ(consistent.items[0].iterations, 0);
    const Solution inconsistent = solve(op, at::ones_like(zero), start, preconditioner.get(), {});
    EXPECT_TRUE(at::equal(inconsistent.x, start));
    EXPECT_FALSE(inconsistent.items[0].converged);
    EXPECT_NE(inconsistent.items[0].why.find("curvature"), std::string::npos) << inconsistent.items[0].why;
  }
}

TEST(ConjugateGradient, StopsAtNegativeCurvatureInThatItemOnly) {
  RandomMatrices random(13);
  auto terms = random.terms(1, 2, 3, 4);
  terms[0].output[0].neg_();
  const at::Tensor rhs = random.normal({2, 3, 4}), start = random.normal({2, 3, 4});
  const Solution solution = solve(KroneckerSum(terms), rhs, start, nullptr, options(100, 1e-10));
  EXPECT_TRUE(at::equal(solution.x[0], start[0]));
  EXPECT_FALSE(solution.items[0].converged);
  EXPECT_NE(solution.items[0].why.find("curvature"), std::string::npos) << solution.items[0].why;
  EXPECT_TRUE(solution.items[1].converged);
}

TEST(ConjugateGradient, DoesNotFollowAValueThatIsNotFinite) {
  RandomMatrices random(14);
  auto terms = random.terms(1, 2, 3, 4);
  terms[0].input[0][1][1] = INFINITY;
  const at::Tensor rhs = random.normal({2, 3, 4}), zero = at::zeros({2, 3, 4}, at::kDouble);
  const Solution solution = solve(KroneckerSum(terms), rhs, zero, nullptr, options(100, 1e-10));
  EXPECT_TRUE(at::equal(solution.x[0], zero[0]));
  EXPECT_FALSE(solution.items[0].converged);
  EXPECT_NE(solution.items[0].why.find("not finite"), std::string::npos) << solution.items[0].why;
  EXPECT_TRUE(solution.items[1].converged);
}

TEST(ConjugateGradient, NamesWhatIsWrongWithTheOperator) {
  const at::Tensor identity = at::eye(2, at::kDouble).unsqueeze(0), start = at::zeros({1, 2, 2}, at::kDouble);
  const at::Tensor singular = at::tensor({1.0, 0.0, 0.0, 0.0}, at::kDouble).view({1, 2, 2});
  const at::Tensor indefinite = at::tensor({1.0, 0.0, 0.0, -3.0}, at::kDouble).view({1, 2, 2});
  const auto why = [&](const at::Tensor& factor) {
    return solve(KroneckerSum({{1.0, identity, factor}}), at::ones({1, 2, 2}, at::kDouble), start, nullptr, {})
        .items[0]
        .why;
  };
  EXPECT_NE(why(indefinite).find("negative curvature"), std::string::npos) << why(indefinite);
  EXPECT_NE(why(singular).find("outside its range"), std::string::npos) << why(singular);
}

/// Symmetric but for a part that grows with the iterations it has seen: what a sloppy product would do.
class Crooked final : public LinearOperator {
 public:
  Crooked(const LinearOperator& op, at::Tensor skew) : op_(op), skew_(std::move(skew)) {}
  std::array<int64_t, 3> sizes() const override { return op_.sizes(); }
  at::TensorOptions options() const override { return op_.options(); }
  at::Tensor diagonal() const override { return op_.diagonal(); }

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const override {
    op_.apply(x, out, items);
    out.add_(x.bmm(skew_));
  }

 private:
  const LinearOperator& op_;
  at::Tensor skew_;
};

TEST(ConjugateGradient, StartsAgainWhereTheOperatorIsNotSymmetric) {
  RandomMatrices random(21);
  const KroneckerSum op(random.terms(2, 1, 6, 8));
  const at::Tensor noise = random.normal({1, 8, 8}), rhs = random.normal({1, 6, 8});
  CgOptions cg = options(400, 1e-9);
  cg.refresh_every = 5;
  EXPECT_EQ(solve(op, rhs, at::zeros_like(rhs), nullptr, cg).items[0].restarts, 0);
  const Solution solution =
      solve(Crooked(op, 0.3 * (noise - noise.transpose(1, 2))), rhs, at::zeros_like(rhs), nullptr, cg);
  EXPECT_GT(solution.items[0].restarts, 0);
}

TEST(ConjugateGradient, GivesTheStartBackWhereItDiverges) {
  // Far from symmetric: the recurrences mean nothing, and the residual grows.
  RandomMatrices random(24);
  auto terms = random.terms(1, 1, 6, 8);
  for (auto& term : terms) term = {term.weight, term.output.to(at::kFloat), term.input.to(at::kFloat)};
  const KroneckerSum op(terms);
  const at::Tensor noise = random.normal({1, 8, 8}).to(at::kFloat), rhs = random.normal({1, 6, 8}).to(at::kFloat),
                   start = random.normal({1, 6, 8}).to(at::kFloat);
  CgOptions cg = options(2000, 1e-9);
  cg.refresh_every = 0;
  const Solution solution = solve(Crooked(op, 5 * (noise - noise.transpose(1, 2))), rhs, start, nullptr, cg);
  EXPECT_FALSE(solution.items[0].converged);
  EXPECT_NE(solution.items[0].why.find("diverged"), std::string::npos) << solution.items[0].why;
  EXPECT_TRUE(at::equal(solution.x, start));
}

TEST(ConjugateGradient, DoesNotTakeAResidualThatGrowsForDivergence) {
  // κ = 1e8, and a start that hardly sees the small eigenvalue: after the first step the residual is 5000 times ‖b‖.
  const at::Tensor factor = at::diag(at::tensor({1.0, 1e-8}, at::kDouble)).unsqueeze(0);
  const at::Tensor rhs = at::tensor({1e-4, 1.0}, at::kDouble).view({1, 1, 2});
  const KroneckerSum op({1, 1, 2}, {{1.0, {}, factor}}, rhs.options());
  const Solution solution = solve(op, rhs, at::zeros_like(rhs), nullptr, options(10, 1e-9));
  EXPECT_GT(solution.history[1][0].item<double>(), 1e3);
  EXPECT_TRUE(solution.items[0].converged) << solution.items[0].why;
  EXPECT_NEAR(solution.x[0][0][0].item<double>(), 1e-4, 1e-8);
  EXPECT_NEAR(solution.x[0][0][1].item<double>(), 1e8, 1.0);
}

TEST(ConjugateGradient, SolvesInDirectionsThatAreHardlySeenToo) {
  for (const double least : {1e-7, 1e-10}) {
    const at::Tensor factor = at::diag(at::tensor({1.0, least}, at::kDouble)).unsqueeze(0);
    const KroneckerSum op({1, 1, 2}, {{1.0, {}, factor}}, factor.options());
    const at::Tensor expected = at::ones({1, 1, 2}, at::kDouble);
    for (const std::string& name : preconditioner_names()) {
      const Solution solution = solve(op, image(op, expected), at::zeros_like(expected),
                                      make_preconditioner(name, op).get(), options(50, 1e-4 * least));
      EXPECT_TRUE(solution.items[0].converged) << name << ": " << solution.items[0].why;
      EXPECT_LE(difference(solution.x, expected), 1e-3) << name;  // the tolerance, by the condition number
    }
  }
}

TEST(ConjugateGradient, SaysThatNothingCanBeDoneWhereThePreconditionerSeesNothing) {
  // b = (0, 1) lies outside of the range of K = diag(1, 0), and the preconditioner leaves that direction out.
  const at::Tensor factor = at::diag(at::tensor({1.0, 0.0}, at::kDouble)).unsqueeze(0);
  const KroneckerSum op({1, 1, 2}, {{1.0, {}, factor}}, factor.options());
  const at::Tensor rhs = at::tensor({0.0, 1.0}, at::kDouble).view({1, 1, 2});
  const Solution solution =
      solve(op, rhs, at::zeros_like(rhs), make_preconditioner("kronecker_trace", op).get(), options(50, 1e-9));
  EXPECT_FALSE(solution.items[0].converged);
  EXPECT_NE(solution.items[0].why.find("sees nothing"), std::string::npos) << solution.items[0].why;
  EXPECT_EQ(solution.items[0].residual, 1.0);
}

TEST(ConjugateGradient, StopsAtTheTimeLimit) {
  RandomMatrices random(22);
  const KroneckerSum op(random.terms(3, 1, 9, 8));
  const at::Tensor rhs = random.normal({1, 9, 8});
  CgOptions cg = options(100000, 0.0);
  cg.time_limit = 0.02;
  const Solution solution = solve(op, rhs, at::zeros_like(rhs), nullptr, cg);
  EXPECT_LT(solution.items[0].iterations, 100000);
  EXPECT_FALSE(solution.items[0].converged);
  EXPECT_EQ(solution.items[0].why, "time limit");
}

TEST(ConjugateGradient, GoesOnUntilTheTrueResidualIsThere) {
  // In float32 the recurrence runs ahead of the truth: 1e-6 is reached by going on from where it stopped.
  RandomMatrices random(23);
  auto terms = random.terms(3, 1, 30, 40);
  for (auto& term : terms) term = {term.weight, term.output.to(at::kFloat), term.input.to(at::kFloat)};
  const KroneckerSum op(terms);
  const at::Tensor rhs = random.normal({1, 30, 40}).to(at::kFloat);
  const auto preconditioner = make_preconditioner("kronecker_trace", op);
  const Solution solution = solve(op, rhs, at::zeros_like(rhs), preconditioner.get(), options(2000, 1e-6));
  EXPECT_TRUE(solution.items[0].converged) << solution.items[0].why;
  EXPECT_LE(solution.items[0].residual, 1.00001e-6);
}

// --- Reports
// ----------------------------------------------------------------------------------------------------------

TEST(ConjugateGradient, ReportsTheTrueResidualAndTheWholeHistory) {
  RandomMatrices random(15);
  const auto terms = random.terms(2, 1, 6, 5);
  const at::Tensor rhs = random.normal({1, 6, 5}), start = random.normal({1, 6, 5});
  const Solution solution = solve(KroneckerSum(terms), rhs, start, nullptr, options(7, 0.0, 3));
  EXPECT_EQ(solution.items[0].iterations, 7);
  ASSERT_EQ(solution.history.size(0), 8);
  const auto residual = [&](const at::Tensor& x) {
    const at::Tensor error = rhs[0].flatten() - test::dense(terms, 0).mv(x[0].flatten());
    return (error.norm() / rhs.norm()).item<double>();
  };
  EXPECT_NEAR(solution.history[0][0].item<double>(), residual(start), 1e-12 * residual(start));
  EXPECT_NEAR(solution.items[0].residual, residual(solution.x), 1e-10 * residual(start));
  for (const int64_t k : {1, 4}) {
    const Solution part = solve(KroneckerSum(terms), rhs, start, nullptr, options(k, 0.0));
    EXPECT_NEAR(solution.history[k][0].item<double>(), residual(part.x), 1e-10 * residual(start));
  }
}

/// Halves what comes out of the products of item 0 in its first steps, so that its recurrence runs ahead of the truth
/// while item 1 goes on.
class AheadAtFirst final : public LinearOperator {
 public:
  AheadAtFirst(const LinearOperator& op, int64_t steps) : op_(op), left_(steps) {}
  std::array<int64_t, 3> sizes() const override { return op_.sizes(); }
  at::TensorOptions options() const override { return op_.options(); }
  at::Tensor diagonal() const override { return op_.diagonal(); }

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const override {
    op_.apply(x, out, items);
    if (left_-- > 0) out[0].mul_(0.999);
  }

 private:
  const LinearOperator& op_;
  mutable int64_t left_;
};

TEST(ConjugateGradient, AnItemsHistoryHoldsItsOwnStepsOnly) {
  RandomMatrices random(25);
  auto terms = random.terms(1, 2, 5, 6);
  terms[0].output[0].copy_(at::eye(5, at::kDouble));
  terms[0].input[0].copy_(at::eye(6, at::kDouble));
  const KroneckerSum op(terms);
  const at::Tensor rhs = random.normal({2, 5, 6});
  // The start's product and one step are off: item 0 believes that it is done after a step, and goes on at the end.
  const Solution solution = solve(AheadAtFirst(op, 2), rhs, at::zeros_like(rhs), nullptr, options(500, 1e-10));
  ASSERT_TRUE(solution.items[0].converged) << solution.items[0].why;
  ASSERT_TRUE(solution.items[1].converged) << solution.items[1].why;
  ASSERT_EQ(solution.items[0].iterations, 2);
  ASSERT_GT(solution.items[1].iterations, 5);
  EXPECT_EQ(solution.history.size(0), solution.items[1].iterations + 1);
  EXPECT_LE(solution.history[1][0].item<double>(), 1e-10);
  EXPECT_NE(solution.history[2][0].item<double>(), solution.history[1][0].item<double>());
  EXPECT_TRUE(at::equal(solution.history.select(1, 0).slice(0, 2),
                        solution.history[2][0].expand({solution.history.size(0) - 2})));
}

TEST(ConjugateGradient, SaysWhenTheTrueResidualMissesTheTolerance) {
  RandomMatrices random(16);
  const at::Tensor basis = std::get<0>(at::linalg_qr(random.normal({1, 12, 12})));
  const at::Tensor factor =
      (basis * at::logspace(0, -5, 12, 10.0, at::kDouble)).bmm(basis.transpose(1, 2)).to(at::kFloat);
  const KroneckerSum op({{1.0, at::eye(2).unsqueeze(0), factor}});
  const Solution solution =
      solve(op, random.normal({1, 2, 12}).to(at::kFloat), at::zeros({1, 2, 12}), nullptr, options(2000, 1e-7));
  EXPECT_GT(solution.items[0].residual, 1e-6);
  EXPECT_FALSE(solution.items[0].converged);
  EXPECT_NE(solution.items[0].why.find("true residual"), std::string::npos) << solution.items[0].why;
}

TEST(ConjugateGradient, TakesFewerIterationsWithAPreconditioner) {
  RandomMatrices random(17);
  std::vector<KroneckerTerm> terms;
  const auto factor = [&](int64_t n) {  // eigenvalues from 1 down to 1e-3, the same basis up to a perturbation
    const at::Tensor scales = at::logspace(0, -1.5, n, 10.0, at::kDouble).unsqueeze(0).unsqueeze(2);
    const at::Tensor x = scales * random.normal({1, n, 4 * n});
    return x.bmm(x.transpose(1, 2)) / (4 * n);
  };
  for (int m = 0; m < 4; ++m) terms.push_back({1.0, factor(10), factor(14)});
  const KroneckerSum op(terms);
  const at::Tensor rhs = random.normal({1, 10, 14}), zero = at::zeros_like(rhs);
  const auto preconditioner = make_preconditioner("kronecker_trace", op);
  const Solution plain = solve(op, rhs, zero, nullptr, options(3000, 1e-8));
  const Solution quick = solve(op, rhs, zero, preconditioner.get(), options(3000, 1e-8));
  ASSERT_TRUE(plain.items[0].converged && quick.items[0].converged);
  EXPECT_LT(quick.items[0].iterations * 5, plain.items[0].iterations);
}

// --- The host
// -----------------------------------------------------------------------------------------------------------

std::atomic<int64_t> host_reads{0};

std::unique_ptr<at::ObserverContext> count_host_reads(const at::RecordFunction& function) {
  // `.item()`, and `.cpu()` or `.to(device)`, which on a CPU is the same call without a copy.
  const std::string name = function.name();
  if (name == "aten::_local_scalar_dense" || name == "aten::to") ++host_reads;
  return nullptr;
}

int64_t counted(const std::function<void()>& work) {
  host_reads = 0;
  const auto handle = at::addThreadLocalCallback(at::RecordFunctionCallback(count_host_reads));
  work();
  at::removeCallback(handle);
  return host_reads;
}

int64_t host_reads_of(const CgOptions& cg) {
  RandomMatrices random(18);
  const KroneckerSum op(random.terms(3, 4, 9, 8));
  const at::Tensor rhs = random.normal({4, 9, 8}), zero = at::zeros_like(rhs);
  const auto preconditioner = make_preconditioner("kronecker_trace", op);
  return counted([&] {
    const Solution solution = solve(op, rhs, zero, preconditioner.get(), cg);
    EXPECT_EQ(solution.history.size(0), cg.iterations + 1);
  });
}

TEST(ConjugateGradient, LooksAtTheDeviceOncePerCheckOnly) {
  const int64_t start_and_end = host_reads_of(options(0, 0.0));
  EXPECT_GE(start_and_end, 1);  // the refusal of NaN: so the counter counts
  EXPECT_LE(start_and_end, 24);
  const at::Tensor status = at::zeros({4}, at::kChar);
  // With one look in all; what else is read, the estimate of the condition, is on the host already.
  const int64_t one_look = host_reads_of(options(20, 0.0, 100)), a_look = counted([status] { status.eq(0).cpu(); });
  EXPECT_EQ(host_reads_of(options(20, 0.0, 1)) - one_look, 19 * a_look);
  EXPECT_EQ(host_reads_of(options(20, 0.0, 5)) - one_look, 3 * a_look);
  EXPECT_EQ(host_reads_of(options(20, 0.0, 7)) - one_look, 2 * a_look);
}

TEST(ConjugateGradient, CallsBackAtEachCheckAndCanBeStopped) {
  RandomMatrices random(19);
  const KroneckerSum op(random.terms(3, 1, 9, 8));
  const at::Tensor rhs = random.normal({1, 9, 8});
  std::vector<int64_t> seen;
  CgOptions cg = options(10, 0.0, 4);
  cg.at_check = [&](int64_t iteration) { seen.push_back(iteration); };
  solve(op, rhs, at::zeros_like(rhs), nullptr, cg);
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 4, 8}));
  cg.at_check = [](int64_t) { throw std::runtime_error("stop"); };
  EXPECT_THROW(solve(op, rhs, at::zeros_like(rhs), nullptr, cg), std::runtime_error);
}

}  // namespace
}  // namespace amalgam
