#include "solvers/linear/diagonal_operator.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

TEST(DiagonalOperator, MultipliesElementByElement) {
  RandomMatrices random(1);
  const at::Tensor diagonal = random.normal({2, 3, 4}).square(), x = random.normal({2, 3, 4});
  at::Tensor out = at::full_like(x, NAN);
  DiagonalOperator(diagonal).apply(x, out);
  EXPECT_TRUE(at::equal(out, diagonal * x));
  EXPECT_TRUE(at::equal(DiagonalOperator(diagonal).diagonal(), diagonal));
}

TEST(DiagonalOperator, GivesTheProductThatItIs) {
  RandomMatrices random(2);
  const at::Tensor rows = random.normal({1, 3}).square(), columns = random.normal({1, 4}).square();
  const DiagonalOperator op(rows.unsqueeze(2) * columns.unsqueeze(1));
  EXPECT_LE(test::difference(test::dense(op.kronecker_terms(), 0), at::diag(op.diagonal().flatten())),
            20 * test::kEps64 * op.diagonal().max().item<double>());
}

TEST(DiagonalOperator, GivesAProductOfItsTraceWhereItIsNone) {
  RandomMatrices random(3);
  const DiagonalOperator op(random.normal({2, 3, 4}).square());
  EXPECT_NEAR(test::dense(op.kronecker_terms(), 1).trace().item<double>(), op.diagonal()[1].sum().item<double>(),
              1e-12);
}

TEST(DiagonalOperator, DoesNotSeeWhereItIsZero) {
  const at::Tensor diagonal = at::tensor({1.0, 0.0, 2.0, 0.0}, at::kDouble).view({1, 2, 2});
  const at::Tensor x = RandomMatrices(4).normal({1, 2, 2});
  EXPECT_TRUE(at::equal(DiagonalOperator(diagonal).null_part(x), x * (diagonal == 0)));
  EXPECT_FALSE(DiagonalOperator(diagonal + 1).null_part(x).defined());
}

}  // namespace
}  // namespace amalgam
