#include "solvers/linear/kronecker_sum.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

TEST(KroneckerSum, IsTheDenseSumOfKroneckerProducts) {
  RandomMatrices random(1);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {1, 7}, {5, 1}, {4, 3}, {8, 17}}) {
    const auto terms = random.terms(3, 2, out, in);
    const at::Tensor x = random.normal({2, out, in});
    at::Tensor result = at::full_like(x, NAN);  // must be overwritten, not added to
    KroneckerSum(terms).apply(x, result);
    for (int64_t item = 0; item < 2; ++item) {
      const at::Tensor matrix = test::dense(terms, item);
      const at::Tensor expected = matrix.mv(x[item].flatten()).view({out, in});
      EXPECT_LE(difference(result[item], expected), 20 * test::kEps64 * matrix.abs().sum(1).max().item<double>() * 4);
      EXPECT_LE(difference(KroneckerSum(terms).diagonal()[item].flatten(), matrix.diagonal()),
                1e-14 * matrix.max().item<double>());
    }
  }
}

TEST(KroneckerSum, RefusesFactorsAndOperandsThatDoNotFit) {
  RandomMatrices random(2);
  auto terms = random.terms(2, 2, 3, 4);
  const KroneckerSum op(terms);
  at::Tensor out = at::empty({2, 3, 4}, at::kDouble);
  EXPECT_THROW(op.apply(at::zeros({2, 4, 3}, at::kDouble), out), c10::Error);
  EXPECT_THROW(op.apply(at::zeros({2, 3, 4}, at::kFloat), out), c10::Error);
  EXPECT_THROW(op.apply(out, out), c10::Error);
  terms[1].input = random.gram(2, 5, 5);
  EXPECT_THROW(KroneckerSum{terms}, c10::Error);
  EXPECT_THROW(KroneckerSum{std::vector<KroneckerTerm>{}}, c10::Error);
}

TEST(KroneckerSum, FindsTheCommonNullSpaceOfTheInputFactors) {
  RandomMatrices random(3);
  const int64_t out = 3, in = 6;
  // Two factors of rank 2 in six dimensions: 6 - 4 common null directions.
  const std::vector<KroneckerTerm> terms{{1.0, random.gram(1, out, out, 0.1), random.gram(1, in, 2)},
                                         {2.0, random.gram(1, out, out, 0.1), random.gram(1, in, 2)}};
  const KroneckerSum op(terms);
  const at::Tensor x = random.normal({1, out, in});
  const at::Tensor part = op.null_part(x);
  at::Tensor image = at::empty_like(x);
  op.apply(part.contiguous(), image);
  EXPECT_LE(image.abs().max().item<double>(), 1e-12);
  // What is left is orthogonal to it, and of rank 4.
  EXPECT_NEAR((part * (x - part)).sum().item<double>(), 0.0, 1e-12);
  EXPECT_EQ(
      at::linalg_matrix_rank(op.null_part(at::eye(in, at::kDouble).slice(0, 0, out).unsqueeze(0))[0]).item<int64_t>(),
      2);
}

TEST(KroneckerSum, LeavesOutOfTheNullSpaceWhoHasNoSay) {
  RandomMatrices random(4);
  // The second expert's B is zero, so that its regular A does not count.
  const at::Tensor zero = at::zeros({1, 3, 3}, at::kDouble);
  const KroneckerSum op({{1.0, random.gram(1, 3, 3, 0.1), random.gram(1, 5, 2)}, {1.0, zero, random.gram(1, 5, 9)}});
  const at::Tensor part = op.null_part(random.normal({1, 3, 5}));
  ASSERT_TRUE(part.defined());
  EXPECT_GT(part.norm().item<double>(), 0.1);
}

TEST(KroneckerSum, KnowsThatARegularOperatorHasNoNullSpace) {
  RandomMatrices random(5);
  EXPECT_FALSE(KroneckerSum(random.terms(2, 3, 4, 5)).null_part(random.normal({3, 4, 5})).defined());
}

}  // namespace
}  // namespace amalgam
