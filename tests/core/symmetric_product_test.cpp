#include "core/symmetric_product.h"

#include <gtest/gtest.h>
#include <torch/cuda.h>

#include <cmath>
#include <limits>

namespace amalgam {
namespace {

at::Tensor random(std::vector<int64_t> shape, at::ScalarType dtype, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kDouble).to(dtype);
}

// sum + xᵀ x, one element at a time in float64; x [groups, rows, n], sum [groups, n, n]
at::Tensor naive(const at::Tensor& x, const at::Tensor& sum) {
  const at::Tensor x64 = x.to(at::kDouble), result = sum.to(at::kDouble).clone();
  const auto in = x64.accessor<double, 3>();
  auto out = result.accessor<double, 3>();
  for (int64_t g = 0; g < x.size(0); ++g)
    for (int64_t i = 0; i < x.size(2); ++i)
      for (int64_t j = 0; j < x.size(2); ++j)
        for (int64_t r = 0; r < x.size(1); ++r) out[g][i][j] += in[g][r][i] * in[g][r][j];
  return result;
}

double epsilon(at::ScalarType dtype) {
  return dtype == at::kFloat ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
}

// A sum of `rows` products of standard normals, in any order, is off by less than about sqrt(rows) epsilon times the
// largest element of the sum.
void expect_close(const at::Tensor& actual, const at::Tensor& expected, double bound) {
  const double difference = (actual.to(at::kDouble) - expected).abs().max().item<double>();
  EXPECT_LE(difference, bound * expected.abs().max().item<double>());
}

void add_symmetric_product(const at::Tensor& x, at::Tensor& sum) {
  add_lower_product(x, sum);
  mirror_lower_triangle(sum);
}

struct Case {
  int64_t groups, rows, n;
};

class SymmetricProduct : public testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, SymmetricProduct, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& test) { return test.param == at::kFloat ? "float32" : "float64"; });

TEST_P(SymmetricProduct, AddsTheProductAtSizesAroundEveryBlockBoundary) {
  const auto dtype = GetParam();
  for (const auto [groups, rows, n] :
       {Case{1, 0, 3}, Case{1, 1, 1}, Case{1, 9, 2}, Case{1, 5, 127}, Case{1, 5, 128}, Case{1, 5, 129}, Case{1, 6, 255},
        Case{1, 6, 256}, Case{1, 6, 257}, Case{1, 3, 301}, Case{7, 11, 9}, Case{2, 4, 131}}) {
    SCOPED_TRACE(testing::Message() << groups << " groups, " << rows << " rows, n = " << n);
    const at::Tensor x = random({groups, rows, n}, dtype, 1);
    const at::Tensor start = random({groups, n, n}, dtype, 2);
    at::Tensor sum = start + start.mT();
    const at::Tensor expected = naive(x, sum);
    add_symmetric_product(x, sum);
    expect_close(sum, expected, (4 + std::sqrt(static_cast<double>(rows))) * epsilon(dtype));
    EXPECT_TRUE(sum.equal(sum.mT().contiguous())) << "not exactly symmetric";
  }
}

TEST_P(SymmetricProduct, AddsIntoFloat64WhateverTheDtypeOfTheRows) {
  const auto dtype = GetParam();
  for (const int64_t rows : {int64_t{1}, kChunkRows - 1, kChunkRows, kChunkRows + 1, 2 * kChunkRows + 3}) {
    const at::Tensor x = random({1, rows, 5}, dtype, 3);
    at::Tensor sum = at::eye(5, at::kDouble);
    const at::Tensor expected = naive(x, sum.unsqueeze(0)).squeeze(0);
    add_symmetric_product(x.squeeze(0), sum);
    ASSERT_EQ(sum.scalar_type(), at::kDouble);
    expect_close(sum, expected, std::sqrt(static_cast<double>(rows)) * epsilon(dtype));
    EXPECT_TRUE(sum.equal(sum.t().contiguous()));
  }
}

TEST(MirrorLowerTriangle, PutsItInPlaceOfTheUpperOneAtAnySize) {
  for (const int64_t n : {1, 2, 127, 128, 129, 300}) {
    const at::Tensor x = random({2, n, n}, at::kDouble, 5);
    at::Tensor mirrored = x.clone();
    mirror_lower_triangle(mirrored);
    EXPECT_TRUE(mirrored.equal(x.tril() + x.tril(-1).mT())) << n;
  }
}

TEST(SymmetricProductInFloat64, KeepsWhatFloat32WouldLose) {
  at::Tensor sum = at::full({1, 1}, 1e9, at::kDouble);
  add_symmetric_product(at::ones({1, 1}, at::kFloat), sum);
  EXPECT_EQ(sum.item<double>(), 1e9 + 1);
}

TEST(SymmetricProductArguments, TakesRowsThatAreNotContiguous) {
  const at::Tensor x = random({1, 150, 6}, at::kDouble, 4).squeeze(0).t();  // [6, 150], column-major
  at::Tensor sum = at::zeros({150, 150}, at::kDouble);
  add_symmetric_product(x, sum);
  expect_close(sum, naive(x.unsqueeze(0).contiguous(), at::zeros({1, 150, 150}, at::kDouble)).squeeze(0),
               8 * epsilon(at::kDouble));
}

TEST(SymmetricProductArguments, AreRefusedWhereTheyDoNotFit) {
  at::Tensor sum = at::zeros({3, 3}), small = at::zeros({2, 2}), grouped = at::zeros({2, 3, 3});
  at::Tensor view = at::zeros({3, 6}).slice(1, 0, std::nullopt, 2);
  EXPECT_THROW(add_lower_product(at::zeros({4, 3}), small), c10::Error);
  EXPECT_THROW(add_lower_product(at::zeros({4, 3}), grouped), c10::Error);
  EXPECT_THROW(add_lower_product(at::zeros({3}), sum), c10::Error);
  EXPECT_THROW(add_lower_product(at::zeros({4, 3}), view), c10::Error);
  EXPECT_THROW(add_lower_product(at::zeros({4, 3}, at::kDouble), sum), c10::Error);
  EXPECT_THROW(add_lower_product(at::zeros({4, 3}, at::kHalf), sum), c10::Error);
}

TEST_P(SymmetricProduct, IsTheSameOnAGpu) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU";
  const auto dtype = GetParam();
  for (const auto [groups, rows, n] :
       {Case{1, 0, 130}, Case{1, 7, 3}, Case{1, 50, 129}, Case{3, 33, 300}, Case{5, 9, 9}}) {
    for (const auto sum_dtype : {dtype, at::kDouble}) {
      const at::Tensor x = random({groups, rows, n}, dtype, 5);
      const at::Tensor start = at::eye(n, at::dtype(sum_dtype)).repeat({groups, 1, 1});
      at::Tensor sum = start.to(at::kCUDA);
      add_symmetric_product(x.to(at::kCUDA), sum);
      expect_close(sum.cpu(), naive(x, start), (4 + std::sqrt(static_cast<double>(rows))) * epsilon(dtype));
      EXPECT_TRUE(sum.equal(sum.mT().contiguous()));
    }
  }
}

}  // namespace
}  // namespace amalgam
