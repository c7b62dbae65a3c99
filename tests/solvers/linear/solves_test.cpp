// Every way of solving Σ α B X A = R against dense float64 solves, over odd sizes, numbers of experts, ranks and
// condition numbers; and what must not change the answer.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "solvers/linear/conjugate_gradient.h"
#include "solvers/linear/direct.h"
#include "solvers/linear/kronecker_sum.h"
#include "solvers/linear/refinement.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

/// What may move in unseen directions: rounding, by the condition of the factors' sum (1e5) that tells them apart.
constexpr double kKept = 1e3 * 2.2e-16 * 1e5;

CgOptions exact() {
  CgOptions options;
  options.iterations = 20000;
  options.tolerance = 1e-11;
  return options;
}

/// A factor [1, n, n] with eigenvalues from 1 down to 1/condition in a random basis; only the first `rank` of them.
at::Tensor factor(RandomMatrices& random, int64_t n, int64_t rank, double condition) {
  const at::Tensor basis = std::get<0>(at::linalg_qr(random.normal({1, n, n})));
  at::Tensor values =
      n == 1 ? at::ones({1}, at::kDouble) : at::logspace(0, -std::log10(condition), n, 10.0, at::kDouble);
  values.slice(0, rank).zero_();
  return (basis * values).bmm(basis.transpose(1, 2));
}

at::Tensor image(const LinearOperator& op, const at::Tensor& x) {
  at::Tensor out = at::empty_like(x);
  op.apply(x, out);
  return out;
}

struct SolveCase {
  size_t experts;
  int64_t out, in, in_rank;
  double condition;  // of each factor

  friend void PrintTo(const SolveCase& c, std::ostream* stream) {
    *stream << c.experts << " experts, " << c.out << "x" << c.in << ", rank " << c.in_rank << ", condition "
            << c.condition;
  }
};

/// A right-hand side in the range, a start with a part in the null space, and the answer: the pseudo-inverse's, with
/// that part kept.
struct Solves : testing::TestWithParam<SolveCase> {
  RandomMatrices random{99};
  const int64_t out = GetParam().out, in = GetParam().in;
  const std::vector<KroneckerTerm> terms = make_terms();
  const KroneckerSum op{terms};
  const at::Tensor rhs = image(op, random.normal({1, out, in})), start = random.normal({1, out, in});

  std::vector<KroneckerTerm> make_terms() {
    std::vector<KroneckerTerm> made;
    for (size_t m = 0; m < GetParam().experts; ++m)
      made.push_back({1.0 + static_cast<double>(m), factor(random, out, out, GetParam().condition),
                      factor(random, in, GetParam().in_rank, GetParam().condition)});
    return made;
  }

  /// K flattened, by eigenvectors; which of them it sees.
  struct Spectrum {
    at::Tensor values, vectors, seen;
  };
  Spectrum spectrum() const {
    const auto [values, vectors] = at::linalg_eigh(test::dense(terms, 0));
    return {values, vectors, values > values.max() * 1e-14};
  }

  /// How far x lies from the start in directions that K does not see, relative.
  double moved_unseen(const at::Tensor& x) const {
    const Spectrum of = spectrum();
    const at::Tensor moved = of.vectors.t().mv((x - start).flatten());
    return (moved * of.seen.logical_not()).norm().item<double>() / start.norm().item<double>();
  }

  /// The distance to the answer in the norm that K gives, relative, by what a relative residual ρ can be away at most:
  /// ρ √κ, κ the condition of what K sees.
  double error(const at::Tensor& x) const {
    const auto [values, vectors, seen] = spectrum();
    const at::Tensor inverse = at::where(seen, values.reciprocal(), at::zeros_like(values));
    const at::Tensor answer = vectors.mv(inverse * vectors.t().mv(rhs.flatten()));
    const at::Tensor difference = vectors.t().mv(x.flatten() - answer);
    const auto energy = [&](const at::Tensor& of) {
      return (at::where(seen, values, at::zeros_like(values)) * of * of).sum().sqrt().item<double>();
    };
    const double condition = (values.max() * inverse.max()).item<double>();
    return energy(difference) / energy(vectors.t().mv(answer)) / std::sqrt(condition);
  }
  double residual(const at::Tensor& x) const { return ((image(op, x) - rhs).norm() / rhs.norm()).item<double>(); }
};

TEST_P(Solves, ReachTheAnswerWithEveryPreconditioner) {
  for (const std::string& name : preconditioner_names()) {
    // Without a preconditioner that knows the spectrum, a condition of 1e10 is out of reach.
    if (GetParam().condition > 1e3 && (name == "none" || name == "jacobi")) continue;
    CgOptions options = exact();
    options.tolerance = 1e-9;
    const Solution solution = solve(op, rhs, start, make_preconditioner(name, op).get(), options);
    EXPECT_TRUE(solution.items[0].converged)
        << name << ": " << solution.items[0].why << " " << solution.items[0].residual;
    EXPECT_NEAR(solution.items[0].residual, residual(solution.x), 1e-12);
    EXPECT_LE(residual(solution.x), 1.01e-9) << name;
    EXPECT_LE(error(solution.x), 1.1 * residual(solution.x) + 1e-13) << name;
    EXPECT_LE(moved_unseen(solution.x), kKept) << name;
  }
}

struct Refined : Solves {};
TEST_P(Refined, ReachTheAnswer) {
  std::vector<KroneckerTerm> rounded;
  for (const KroneckerTerm& term : terms)
    rounded.push_back({term.weight, term.output.to(at::kFloat), term.input.to(at::kFloat)});
  const KroneckerSum inner(rounded);
  const Solution solution =
      solve_refined(op, inner, rhs, start, make_preconditioner("kronecker_trace", inner).get(), exact());
  EXPECT_TRUE(solution.items[0].converged) << solution.items[0].why << " " << solution.items[0].residual;
  EXPECT_LE(residual(solution.x), 1.1e-11);
  EXPECT_LE(error(solution.x), 1.1 * residual(solution.x) + 1e-13);
}

struct ClosedForm : Solves {};
TEST_P(ClosedForm, IsTheAnswer) {
  const Solution solution = solve_two_terms(op, rhs, start, 1e-8);
  EXPECT_LE(residual(solution.x), 1e-10 * std::max(1.0, std::sqrt(GetParam().condition)));
  EXPECT_LE(error(solution.x), 1.1 * residual(solution.x) + 1e-13);
  EXPECT_LE(moved_unseen(solution.x), kKept);
}

template <class Wanted>
std::vector<SolveCase> cases(const Wanted& wanted) {
  std::vector<SolveCase> all;
  for (size_t experts = 1; experts <= 5; ++experts)
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {1, 9}, {8, 1}, {7, 5}, {5, 13}})
      for (const double condition : {1.0, 1e2, 1e5}) {  // of K: the square
        if (condition > 1e3 && out * in > 40) continue;
        all.push_back({experts, out, in, in, condition});
        if (in >= 5) all.push_back({experts, out, in, 1, condition});
      }
  std::erase_if(all, [&](const SolveCase& c) { return !wanted(c); });
  return all;
}

INSTANTIATE_TEST_SUITE_P(Sizes, Solves, testing::ValuesIn(cases([](const SolveCase&) { return true; })));
INSTANTIATE_TEST_SUITE_P(Sizes, Refined, testing::ValuesIn(cases([](const SolveCase& c) {  // factors that float32 holds
                           return c.condition <= 1e3 && c.in_rank == c.in;
                         })));
INSTANTIATE_TEST_SUITE_P(Sizes, ClosedForm,
                         testing::ValuesIn(cases([](const SolveCase& c) { return c.experts <= 2; })));

// --- What must not change the answer

struct Invariance : testing::Test {
  RandomMatrices random{7};
  const std::vector<KroneckerTerm> terms = random.terms(4, 2, 6, 9);
  const at::Tensor rhs = random.normal({2, 6, 9}), start = random.normal({2, 6, 9});

  at::Tensor solution(const std::vector<KroneckerTerm>& of, const at::Tensor& b, const std::string& name) const {
    const KroneckerSum op(of);
    return solve(op, b, start, make_preconditioner(name, op).get(), exact()).x;
  }
};

TEST_F(Invariance, TheOrderOfTheExpertsDoesNotMatter) {
  std::vector<KroneckerTerm> turned = terms;
  std::rotate(turned.begin(), turned.begin() + 1, turned.end());
  std::swap(turned[0], turned[1]);
  for (const std::string& name : preconditioner_names())
    EXPECT_LE(test::difference(solution(terms, rhs, name), solution(turned, rhs, name)), 1e-8) << name;
}

TEST_F(Invariance, TheScaleOfAllFactorsDoesNotMatter) {
  for (const double scale : {1e-12, 1e9}) {
    std::vector<KroneckerTerm> scaled;
    for (const KroneckerTerm& term : terms) scaled.push_back({term.weight, term.output * scale, term.input});
    for (const std::string& name : preconditioner_names())
      EXPECT_LE(test::difference(solution(terms, rhs, name), solution(scaled, rhs * scale, name)), 1e-8)
          << name << " " << scale;
  }
}

}  // namespace
}  // namespace amalgam
