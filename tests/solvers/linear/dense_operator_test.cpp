#include "solvers/linear/dense_operator.h"

#include <gtest/gtest.h>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

TEST(DenseOperator, IsTheMatrixOnRows) {
  RandomMatrices random(1);
  const auto terms = random.terms(2, 2, 3, 5);
  const at::Tensor matrices = at::stack({test::dense(terms, 0), test::dense(terms, 1)}), x = random.normal({2, 3, 5});
  const DenseOperator op(matrices, 3, 5);
  at::Tensor out = at::full_like(x, NAN), expected = at::empty_like(x);
  op.apply(x, out);
  KroneckerSum(terms).apply(x, expected);
  EXPECT_LE(test::difference(out, expected), 100 * test::kEps64 * expected.abs().max().item<double>());
  EXPECT_LE(test::difference(op.diagonal(), KroneckerSum(terms).diagonal()), 1e-13);
}

TEST(DenseOperator, KnowsItsNullSpace) {
  RandomMatrices random(2);
  const DenseOperator op(random.gram(1, 6, 4), 2, 3);
  const at::Tensor x = random.normal({1, 2, 3}), part = op.null_part(x);
  at::Tensor image = at::empty_like(x);
  op.apply(part.contiguous(), image);
  EXPECT_LE(image.abs().max().item<double>(), 1e-12);
  EXPECT_GT(part.norm().item<double>(), 0.01);
  EXPECT_FALSE(DenseOperator(random.gram(1, 6, 9, 0.1), 2, 3).null_part(x).defined());
}

TEST(DenseOperator, RefusesAMatrixOfAnotherSize) {
  EXPECT_THROW(DenseOperator(at::zeros({1, 6, 6}), 2, 4), c10::Error);
}

}  // namespace
}  // namespace amalgam
