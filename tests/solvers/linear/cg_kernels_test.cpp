#include "solvers/linear/cg_kernels.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

/// Sizes around the block of 8192 elements, and small ones.
struct CgKernels : testing::TestWithParam<std::tuple<int64_t, at::ScalarType>> {
  const int64_t columns = std::get<0>(GetParam());
  const at::ScalarType dtype = std::get<1>(GetParam());
  const double eps = dtype == at::kDouble ? test::kEps64 : test::kEps32;
  RandomMatrices random{static_cast<uint64_t>(columns)};
  at::Tensor x = draw(), r = draw(), p = draw(), k_p = draw();
  const at::Tensor alpha = random.normal({3}), moves = at::tensor({1, 0, 1}).to(at::kBool);

  at::Tensor draw() { return random.normal({3, 3, columns}).to(dtype); }
};

TEST_P(CgKernels, DotsInFloat64) {
  const at::Tensor expected = (x.to(at::kDouble) * r.to(at::kDouble)).sum({1, 2}), got = dot(x, r, moves);
  EXPECT_EQ(got.scalar_type(), at::kDouble);
  for (const int64_t item : {0, 2})
    EXPECT_NEAR(got[item].item<double>(), expected[item].item<double>(),
                10 * test::kEps64 * (x[item] * r[item]).abs().sum().item<double>());
}

TEST_P(CgKernels, AdvanceMovesWhatMovesAndNothingElse) {
  const at::Tensor old_x = x.clone(), old_r = r.clone(), step = alpha.to(dtype).view({-1, 1, 1});
  k_p[1].fill_(NAN);  // of an item that stands still
  const at::Tensor square = advance(x, r, p, k_p, alpha, moves);
  EXPECT_TRUE(at::equal(x[1], old_x[1]));
  EXPECT_TRUE(at::equal(r[1], old_r[1]));
  for (const int64_t item : {0, 2}) {
    EXPECT_LE(difference(x[item], (old_x + step * p)[item]),
              4 * eps * (1 + (step * p)[item].abs().max().item<double>()) * 8);
    EXPECT_LE(difference(r[item], (old_r - step * k_p)[item]),
              4 * eps * (1 + (step * k_p)[item].abs().max().item<double>()) * 8);
    EXPECT_NEAR(square[item].item<double>(), r[item].to(at::kDouble).square().sum().item<double>(),
                10 * test::kEps64 * square[item].item<double>());
  }
}

TEST_P(CgKernels, TurnMixesTheOldDirectionIn) {
  const at::Tensor old_p = p.clone(), beta = alpha.to(dtype).view({-1, 1, 1});
  turn(p, x, alpha, moves);
  EXPECT_TRUE(at::equal(p[1], old_p[1]));
  EXPECT_LE(difference(p[0], (x + beta * old_p)[0]), 32 * eps * (1 + (beta * old_p)[0].abs().max().item<double>()));
}

TEST_P(CgKernels, DoNotDependOnTheNumberOfThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = dot(x, r, moves);
  at::set_num_threads(3);
  const at::Tensor three = dot(x, r, moves);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
}

TEST_P(CgKernels, AgreeWithTheirFormForOtherDevices) {
  // A tensor that is not contiguous goes the way of other devices.
  const auto strided = [](const at::Tensor& t) { return at::stack({t, t}, -1).select(-1, 0); };
  at::Tensor other_x = strided(x), other_r = strided(r), other_p = strided(p);
  const at::Tensor square = advance(x, r, p, k_p, alpha, moves),
                   other_square = advance(other_x, other_r, other_p, strided(k_p), alpha, moves);
  EXPECT_TRUE(at::allclose(x, other_x, 32 * eps, 32 * eps) && at::allclose(r, other_r, 32 * eps, 32 * eps));
  EXPECT_TRUE(at::allclose(square.index_select(0, at::tensor({0, 2})), other_square.index_select(0, at::tensor({0, 2})),
                           1000 * eps, 0));
  turn(p, x, alpha, moves);
  turn(other_p, strided(x), alpha, moves);
  EXPECT_TRUE(at::allclose(p, other_p, 32 * eps, 32 * eps));
}

INSTANTIATE_TEST_SUITE_P(Sizes, CgKernels,
                         testing::Combine(testing::Values(1, 3, 7, 2731, 8192 / 3 + 1, 5000),
                                          testing::Values(at::kDouble, at::kFloat)));

}  // namespace
}  // namespace amalgam
