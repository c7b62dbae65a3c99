#include "solvers/linear/jitter.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

/// With these eigenvalues, in a random basis.
at::Tensor with_eigenvalues(RandomMatrices& random, std::vector<double> values) {
  const auto n = static_cast<int64_t>(values.size());
  const at::Tensor basis = std::get<0>(at::linalg_qr(random.normal({1, n, n})));
  return (basis * at::tensor(values, at::kDouble)).bmm(basis.transpose(1, 2));
}

TEST(AddJitter, LeavesPositiveAndSingularMatricesAlone) {
  RandomMatrices random(1);
  for (const at::Tensor& matrix : {random.gram(2, 5, 9), random.gram(2, 6, 3), at::zeros({2, 4, 4}, at::kDouble)}) {
    at::Tensor changed = matrix.clone();
    EXPECT_EQ(add_jitter(changed).abs().max().item<double>(), 0.0);
    EXPECT_TRUE(at::equal(changed, matrix));
  }
}

TEST(AddJitter, LiftsWhatRoundingMadeNegative) {
  RandomMatrices random(2);
  at::Tensor matrices =
      at::cat({with_eigenvalues(random, {1.0, 0.5, -3e-8}), with_eigenvalues(random, {1.0, 0.5, 0.1})});
  const at::Tensor before = matrices.clone(), jitter = add_jitter(matrices);
  EXPECT_DOUBLE_EQ(jitter[0].item<double>(), 1e-7);  // of the trace 1.5: the first power of ten that is enough
  EXPECT_EQ(jitter[1].item<double>(), 0.0);
  EXPECT_TRUE(at::equal(matrices[1], before[1]));
  EXPECT_LE(test::difference(matrices[0], before[0] + 1.5e-7 * at::eye(3, at::kDouble)), 1e-14);
}

TEST(AddJitter, AddsNothingWhereNothingIsSeen) {
  RandomMatrices random(4);
  at::Tensor matrix = at::zeros({1, 4, 4}, at::kDouble);
  matrix.slice(1, 0, 3).slice(2, 0, 3).copy_(with_eigenvalues(random, {1.0, 0.5, -3e-8}));
  const at::Tensor before = matrix.clone(),
                   unseen = at::diag(at::tensor({0.0, 0.0, 0.0, 1.0}, at::kDouble)).unsqueeze(0);
  EXPECT_DOUBLE_EQ(add_jitter(matrix, unseen)[0].item<double>(), 1e-7);
  const at::Tensor seen = at::eye(4, at::kDouble).unsqueeze(0) - unseen;
  EXPECT_LE(test::difference(matrix, before + 1.5e-7 * seen), 1e-14);
  EXPECT_EQ(matrix[0][3][3].item<double>(), 0.0);
}

TEST(AddJitter, LeavesAlonePlainlyIndefiniteMatrices) {
  RandomMatrices random(3);
  at::Tensor matrix = with_eigenvalues(random, {1.0, -0.2});
  EXPECT_EQ(add_jitter(matrix)[0].item<double>(), 0.0);
}

}  // namespace
}  // namespace amalgam
