#include "solvers/linear/kronecker_fit.h"

#include <gtest/gtest.h>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

at::Tensor dense_pair(const KroneckerPair& pair, int64_t item) {
  return at::kron(pair.output[item].contiguous(), pair.input[item].contiguous());
}

TEST(TraceFit, HasTheTraceOfTheSum) {
  RandomMatrices random(1);
  const auto terms = random.terms(3, 2, 4, 5);
  const KroneckerPair fit = trace_fit(terms, {2, 4, 5});
  for (int64_t item = 0; item < 2; ++item)
    EXPECT_NEAR(dense_pair(fit, item).trace().item<double>(), test::dense(terms, item).trace().item<double>(), 1e-10);
}

TEST(TraceFit, OfOneTermIsTheTerm) {
  RandomMatrices random(2);
  const auto terms = random.terms(1, 1, 3, 4);
  EXPECT_LE(difference(dense_pair(trace_fit(terms, {1, 3, 4}), 0), test::dense(terms, 0)), 1e-13);
}

TEST(TwoPartFit, OfTwoTermsIsTheirSum) {
  RandomMatrices random(4);
  const auto terms = random.terms(2, 3, 4, 5);
  const auto parts = two_part_fit(terms, {3, 4, 5});
  for (int64_t item = 0; item < 3; ++item) {
    const at::Tensor matrix = test::dense(terms, item);
    EXPECT_LE(difference(dense_pair(parts[0], item) + dense_pair(parts[1], item), matrix),
              1e-13 * matrix.norm().item<double>());
  }
}

TEST(TwoPartFit, FindsTheTwoKindsAmongMany) {
  RandomMatrices random(5);
  const auto kind = random.terms(2, 1, 4, 5);
  std::vector<KroneckerTerm> terms;
  for (const int which : {0, 1, 1, 0, 1}) {
    const KroneckerTerm& of = kind[static_cast<size_t>(which)];
    terms.push_back({1.0 + static_cast<double>(terms.size()), of.output, of.input});
  }
  const auto parts = two_part_fit(terms, {1, 4, 5});
  const at::Tensor matrix = test::dense(terms, 0);
  EXPECT_LE(difference(dense_pair(parts[0], 0) + dense_pair(parts[1], 0), matrix),
            1e-12 * matrix.norm().item<double>());
}

TEST(TwoPartFit, IsNoFartherThanTheTraceFit) {
  RandomMatrices random(6);
  for (size_t count = 3; count <= 6; ++count) {
    const auto terms = random.terms(count, 1, 4, 6);
    const at::Tensor matrix = test::dense(terms, 0);
    const auto parts = two_part_fit(terms, {1, 4, 6});
    const double two = (matrix - dense_pair(parts[0], 0) - dense_pair(parts[1], 0)).norm().item<double>();
    EXPECT_LE(two, (matrix - dense_pair(trace_fit(terms, {1, 4, 6}), 0)).norm().item<double>() * (1 + 1e-12));
  }
}

TEST(KroneckerFits, AreZeroForAZeroSum) {
  const at::Tensor zero = at::zeros({1, 3, 3}, at::kDouble);
  const std::vector<KroneckerTerm> terms{{1.0, zero, zero}, {2.0, zero, zero}};
  EXPECT_TRUE(at::equal(trace_fit(terms, {1, 3, 3}).output, zero));
  EXPECT_TRUE(at::equal(two_part_fit(terms, {1, 3, 3})[0].input, zero));
}

TEST(KroneckerFits, TakeAMissingFactorForTheIdentity) {
  RandomMatrices random(7);
  const at::Tensor a = random.gram(2, 4, 5);
  const KroneckerPair fit = trace_fit({{3.0, {}, a}}, {2, 2, 4});
  const at::Tensor expected = at::kron(at::eye(2, at::kDouble), a[1].contiguous()) * 3;
  EXPECT_LE(difference(dense_pair(fit, 1), expected), 1e-13);
}

}  // namespace
}  // namespace amalgam
