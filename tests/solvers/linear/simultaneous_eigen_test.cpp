#include "solvers/linear/simultaneous_eigen.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

void expect_diagonal(const SimultaneousEigen& eigen, const at::Tensor& matrix, const at::Tensor& values) {
  const at::Tensor turned = eigen.basis.transpose(1, 2).bmm(matrix).bmm(eigen.basis);
  EXPECT_LE(difference(turned, at::diag_embed(values)),
            1e-9 * matrix.abs().max().item<double>() * eigen.basis.square().sum().item<double>());
}

/// What is seen is whole: K V Vᵀ K = K for the sum K of both, each by its trace.
void expect_whole(const SimultaneousEigen& eigen, const at::Tensor& first, const at::Tensor& second) {
  for (int64_t item = 0; item < first.size(0); ++item) {
    const at::Tensor sum = first[item] / first[item].trace() + second[item] / second[item].trace();
    const at::Tensor basis = eigen.basis[item];
    EXPECT_LE(difference(sum.mm(basis).mm(basis.t()).mm(sum), sum), 1e-9);
  }
}

TEST(SimultaneousEigen, MakesBothDiagonal) {
  RandomMatrices random(1);
  for (int64_t n = 1; n <= 9; ++n) {
    const at::Tensor first = random.gram(2, n, n + 1, 0.1), second = random.gram(2, n, n + 2) * 7;
    const SimultaneousEigen eigen = simultaneous_eigen(first, second);
    expect_diagonal(eigen, first, eigen.first);
    expect_diagonal(eigen, second, eigen.second);
    expect_whole(eigen, first, second);
    EXPECT_GE(eigen.first.min().item<double>(), 0.0);
    EXPECT_GE(eigen.second.min().item<double>(), 0.0);
  }
}

TEST(SimultaneousEigen, LeavesOutTheCommonNullSpace) {
  RandomMatrices random(2);
  const int64_t n = 8;
  const at::Tensor first = random.gram(1, n, 2), second = random.gram(1, n, 3);  // 3 directions that neither sees
  const SimultaneousEigen eigen = simultaneous_eigen(first, second);
  expect_diagonal(eigen, first, eigen.first);
  expect_diagonal(eigen, second, eigen.second);
  EXPECT_EQ(eigen.basis.square().sum(1).eq(0).sum().item<int64_t>(), 3);
  expect_whole(eigen, first, second);
}

TEST(SimultaneousEigen, OfAZeroMatrixIsTheEigendecompositionOfTheOther) {
  RandomMatrices random(3);
  const at::Tensor first = random.gram(1, 4, 6), zero = at::zeros_like(first);
  const SimultaneousEigen eigen = simultaneous_eigen(first, zero);
  expect_diagonal(eigen, first, eigen.first);
  EXPECT_TRUE(at::equal(eigen.second, at::zeros({1, 4}, at::kDouble)));
  EXPECT_LE(difference(simultaneous_eigen(zero, zero).basis, zero), 0.0);
}

}  // namespace
}  // namespace amalgam
