#include "solvers/linear/spectrum.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::RandomMatrices;

TEST(Spectrum, MultipliesToTheMatrixWithOrthonormalFactors) {
  RandomMatrices random(2);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{7, 5}, {5, 7}, {1, 4}, {4, 1}, {33, 3}}) {
    const at::Tensor matrix = random.normal({rows, columns});
    const Spectrum spectrum = spectrum_of(matrix);
    const int64_t n = std::min(rows, columns);
    EXPECT_LE(difference(spectrum.product(), matrix), 32 * kEps64);
    EXPECT_LE(difference(spectrum.left.t().mm(spectrum.left), at::eye(n, at::kDouble)), 32 * kEps64);
    EXPECT_LE(difference(spectrum.right.mm(spectrum.right.t()), at::eye(n, at::kDouble)), 32 * kEps64);
    EXPECT_EQ(spectrum.rank(), n);
  }
}

TEST(Spectrum, IsOfFloat64AlsoForFloat32) {
  const Spectrum spectrum = spectrum_of(at::diag(at::tensor({3.0F, 1e-9F})));
  EXPECT_EQ(spectrum.values.scalar_type(), at::kDouble);
  EXPECT_NEAR(spectrum.values[1].item<double>(), 1e-9, 1e-16);
}

TEST(Spectrum, LeadsWithTheBestApproximation) {
  RandomMatrices random(3);
  const at::Tensor matrix = random.normal({6, 4});
  const Spectrum spectrum = spectrum_of(matrix);
  const at::Tensor rest = matrix - spectrum.leading(2).product();
  EXPECT_NEAR(rest.square().sum().item<double>(), spectrum.values.slice(0, 2).square().sum().item<double>(), 1e-13);
}

TEST(Spectrum, LeadsNoFurtherThanTheMatrixGoes) {
  const Spectrum spectrum = spectrum_of(at::diag(at::tensor({2.0, 0.0, 1.0}, at::kDouble)));
  EXPECT_EQ(spectrum.present(1).values.numel(), 1);
  ASSERT_EQ(spectrum.present(3).values.numel(), 2);
  EXPECT_LE(difference(spectrum.present(3).values, at::tensor({2.0, 1.0}, at::kDouble)), 8 * kEps64);
  EXPECT_EQ(spectrum_of(at::zeros({4, 3})).present(2).left.sizes(), (std::vector<int64_t>{4, 0}));
}

TEST(Spectrum, OfNoColumnsIsEmpty) {
  const Spectrum spectrum = spectrum_of(at::zeros({4, 0}));
  EXPECT_EQ(spectrum.rank(), 0);
  EXPECT_EQ(spectrum.polar().sizes(), (std::vector<int64_t>{4, 0}));
}

TEST(Spectrum, HasAPolarFactorWithoutWhatTheMatrixLacks) {
  RandomMatrices random(4);
  const Spectrum left = spectrum_of(random.normal({6, 3})), right = spectrum_of(random.normal({3, 5}));
  const at::Tensor values = at::tensor({4.0, 0.5, 0.0}, at::kDouble);
  const Spectrum spectrum = spectrum_of(Spectrum{left.left, values, right.right}.product());
  EXPECT_EQ(spectrum.rank(), 2);
  const at::Tensor expected = left.left.narrow(1, 0, 2).mm(right.right.narrow(0, 0, 2));
  EXPECT_LE(difference(spectrum.polar(), expected), 64 * kEps64);
  EXPECT_TRUE(at::equal(spectrum_of(at::zeros({3, 2})).polar(), at::zeros({3, 2}, at::kDouble)));
}

}  // namespace
}  // namespace amalgam
