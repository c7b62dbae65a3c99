#include "solvers/linear/null_space.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

TEST(NullSpace, ProjectsOnZeroDirectionsOfADiagonalMatrix) {
  const at::Tensor matrices = at::diag_embed(at::tensor({4.0, 0.0, 1.0, 0.0, 2.0, 3.0}, at::kDouble).view({2, 3}));
  const at::Tensor expected = at::diag_embed(at::tensor({0.0, 1.0, 0.0, 1.0, 0.0, 0.0}, at::kDouble).view({2, 3}));
  EXPECT_LE(test::difference(null_space_projector(matrices), expected), 8 * test::kEps64);
}

TEST(NullSpace, CountsEigenvaluesBelowTheThresholdAsZero) {
  const at::Tensor matrix = at::diag(at::tensor({1.0, 3e-7, 3e-6}, at::kDouble)).unsqueeze(0);
  const at::Tensor expected = at::diag(at::tensor({0.0, 1.0, 0.0}, at::kDouble)).unsqueeze(0);
  EXPECT_LE(test::difference(null_space_projector(matrix, 1e-6), expected), 8 * test::kEps64);
}

TEST(NullSpace, OfAZeroMatrixIsEverything) {
  EXPECT_LE(
      test::difference(null_space_projector(at::zeros({1, 3, 3}, at::kDouble)), at::eye(3, at::kDouble).unsqueeze(0)),
      8 * test::kEps64);
}

TEST(NullSpace, IsUndefinedWhereAllMatricesAreRegular) {
  test::RandomMatrices random(1);
  EXPECT_FALSE(null_space_projector(random.gram(2, 5, 7, 0.1)).defined());
}

}  // namespace
}  // namespace amalgam
