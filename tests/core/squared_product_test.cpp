#include "core/squared_product.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>

#include <limits>

namespace amalgam {
namespace {

at::Tensor random(std::vector<int64_t> shape, at::ScalarType dtype, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kDouble).to(dtype);
}

struct Reference {
  at::Tensor squared;    // [out, in]
  at::Tensor magnitude;  // the same of absolute values: what rounding goes with
};

/// One number at a time in float64.
Reference naive(const at::Tensor& g, const at::Tensor& a) {
  const at::Tensor g64 = g.to(at::kDouble).contiguous(), a64 = a.to(at::kDouble).contiguous();
  const Reference result = {at::zeros({g.size(2), a.size(2)}, at::kDouble),
                            at::zeros({g.size(2), a.size(2)}, at::kDouble)};
  const auto gs = g64.accessor<double, 3>(), as = a64.accessor<double, 3>();
  auto squared = result.squared.accessor<double, 2>(), magnitude = result.magnitude.accessor<double, 2>();
  for (int64_t n = 0; n < g.size(0); ++n)
    for (int64_t i = 0; i < g.size(2); ++i)
      for (int64_t j = 0; j < a.size(2); ++j) {
        double sum = 0, size = 0;
        for (int64_t t = 0; t < g.size(1); ++t) {
          sum += gs[n][t][i] * as[n][t][j];
          size += std::abs(gs[n][t][i] * as[n][t][j]);
        }
        squared[i][j] += sum * sum;
        magnitude[i][j] += size * size;
      }
  return result;
}

/// A sum of T products is off by at most T epsilon of the sum of their sizes, its square by twice that, and the sum
/// over a run of n by another epsilon each.
void expect_close(const at::Tensor& actual, const Reference& expected, const at::Tensor& g) {
  const double epsilon =
      g.scalar_type() == at::kFloat ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
  const auto terms = static_cast<double>(2 * g.size(1) + std::min(g.size(0), kSquaredRun) + 2);
  const at::Tensor difference = (actual.to(at::kDouble) - expected.squared).abs();
  EXPECT_TRUE((difference <= terms * epsilon * expected.magnitude).all().item<bool>())
      << "off by " << (difference / expected.magnitude).max().item<double>() / epsilon << " epsilon, " << terms
      << " allowed";
}

struct Case {
  int64_t n, t, out, in;
};

class SquaredProduct : public testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, SquaredProduct, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& test) { return test.param == at::kFloat ? "float32" : "float64"; });

TEST_P(SquaredProduct, IsRightAtSizesAroundEveryTileAndRun) {
  for (const auto [n, t, out, in] :
       {Case{1, 1, 1, 1}, Case{2, 3, 5, 63}, Case{3, 2, 6, 64}, Case{2, 2, 7, 65}, Case{3, 1, 12, 8}, Case{31, 2, 4, 9},
        Case{32, 2, 4, 9}, Case{33, 2, 13, 17}, Case{70, 1, 3, 130}, Case{3, 700, 5, 16}, Case{2, 2100, 3, 7}}) {
    SCOPED_TRACE(testing::Message() << n << " examples of " << t << " rows, " << out << " x " << in);
    const at::Tensor g = random({n, t, out}, GetParam(), 1), a = random({n, t, in}, GetParam(), 2);
    for (const auto dtype : {at::kDouble, GetParam()}) {
      at::Tensor squared = at::zeros({out, in}, dtype);
      add_squared_products(g, a, squared);
      expect_close(squared, naive(g, a), g);
    }
  }
}

TEST_P(SquaredProduct, AddsToWhatIsThere) {
  const at::Tensor g = random({4, 3, 5}, GetParam(), 3), a = random({4, 3, 6}, GetParam(), 4);
  at::Tensor once = at::zeros({5, 6}, at::kDouble), later = at::full({5, 6}, 8.0, at::kDouble);
  add_squared_products(g, a, once);
  add_squared_products(g, a, later);
  EXPECT_TRUE(at::allclose(later - 8, once, 0, 64 * std::numeric_limits<double>::epsilon() * 8));
}

TEST_P(SquaredProduct, TakesViewsOfAnyStrides) {
  const at::Tensor g = random({5, 8, 9}, GetParam(), 5).permute({1, 2, 0});   // [8, 9, 5]
  const at::Tensor a = random({8, 9, 14}, GetParam(), 6).slice(2, 0, 14, 2);  // [8, 9, 7]
  const at::Tensor all = at::zeros({7, 20}, at::kDouble);
  at::Tensor part = all.t().narrow(0, 10, 5);  // columns 10 to 15 of a matrix stored [in, out]
  add_squared_products(g, a, part);
  expect_close(part, naive(g, a), g);
  EXPECT_EQ(all.narrow(1, 0, 10).abs().sum().item<double>(), 0);
  EXPECT_EQ(all.narrow(1, 15, 5).abs().sum().item<double>(), 0);
}

TEST_P(SquaredProduct, IsTheSameWithOneThreadAndWithMore) {
  const at::Tensor g = random({9, 4, 50}, GetParam(), 7), a = random({9, 4, 200}, GetParam(), 8);
  const int threads = at::get_num_threads();
  at::Tensor one = at::zeros({50, 200}, GetParam()), more = one.clone();
  at::set_num_threads(1);
  add_squared_products(g, a, one);
  at::set_num_threads(3);
  add_squared_products(g, a, more);
  at::set_num_threads(threads);
  if (GetParam() == at::kFloat) {
    EXPECT_TRUE(at::equal(one, more));
  }
  expect_close(more, naive(g, a), g);
}

TEST(SquaredProductOfNothing, AddsNothing) {
  for (const auto& [n, t] : {std::pair{0, 3}, {3, 0}}) {
    at::Tensor squared = at::ones({2, 4});
    add_squared_products(at::ones({n, t, 2}), at::ones({n, t, 4}), squared);
    EXPECT_TRUE(at::equal(squared, at::ones({2, 4})));
  }
}

TEST(SquaredProductArguments, AreRefusedWhereTheyDoNotFit) {
  at::Tensor squared = at::zeros({2, 4}), half = at::zeros({2, 4}, at::kHalf);
  EXPECT_THROW(add_squared_products(at::ones({3, 2}), at::ones({3, 4}), squared), c10::Error);
  EXPECT_THROW(add_squared_products(at::ones({3, 1, 2}), at::ones({2, 1, 4}), squared), c10::Error);
  EXPECT_THROW(add_squared_products(at::ones({3, 1, 4}), at::ones({3, 1, 2}), squared), c10::Error);
  EXPECT_THROW(add_squared_products(at::ones({3, 1, 2}), at::ones({3, 1, 4}, at::kDouble), squared), c10::Error);
  EXPECT_THROW(add_squared_products(at::ones({3, 1, 2}), at::ones({3, 1, 4}), half), c10::Error);
}

TEST_P(SquaredProduct, IsTheSameOnAGpu) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU";
  const at::Tensor g = random({9, 4, 50}, GetParam(), 9), a = random({9, 4, 70}, GetParam(), 10);
  at::Tensor squared = at::zeros({50, 70}, at::dtype(at::kDouble).device(at::kCUDA));
  add_squared_products(g.to(at::kCUDA), a.to(at::kCUDA), squared);
  expect_close(squared.cpu(), naive(g, a), g);
}

}  // namespace
}  // namespace amalgam
