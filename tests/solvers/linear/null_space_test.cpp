#include "solvers/linear/null_space.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

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

TEST(HardlySeenPart, KeepsOfEachDirectionByItsEnergy) {
  RandomMatrices random(5);
  const at::Tensor basis = std::get<0>(at::linalg_qr(random.normal({2, 6, 6})));
  const at::Tensor energies = at::tensor({3.0, 1.0, 3e-3, 3e-6, 3e-9, 0.0}, at::kDouble);  // τ = 3e-6
  const at::Tensor matrices = (basis * energies).bmm(basis.transpose(1, 2)), x = random.normal({2, 4, 6});
  const at::Tensor kept = hardly_seen_part(x, matrices).bmm(basis), whole = x.bmm(basis);  // by direction
  const at::Tensor expected = whole * (3e-6 / (energies + 3e-6));
  // λ_max comes from below, by less than 1e-4 here, and what stays is at most proportional to it.
  EXPECT_LE(test::difference(kept, expected), 1e-4 * whole.abs().max().item<double>());
  EXPECT_LE(test::difference(kept.select(2, 5), whole.select(2, 5)), 1e-9 * whole.abs().max().item<double>());
}

TEST(HardlySeenPart, OfAZeroMatrixIsEverything) {
  RandomMatrices random(6);
  const at::Tensor x = random.normal({2, 4, 3});
  at::Tensor matrices = random.gram(2, 3, 9);
  matrices[1].zero_();
  EXPECT_TRUE(at::equal(hardly_seen_part(x, matrices)[1], x[1]));
  EXPECT_LE(hardly_seen_part(x, matrices)[0].abs().max().item<double>(), 1e-3);
}

}  // namespace
}  // namespace amalgam
