#include "solvers/search/relaxed_mask.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "core/random.h"

namespace amalgam {
namespace {

constexpr double kEps = 2.220446049250313e-16;

at::Tensor numbers(at::IntArrayRef sizes, const std::string& label) {
  return at::randn(sizes, RandomStream(3, label).generator(), at::kDouble);
}

double largest(const at::Tensor& difference) { return difference.abs().max().item<double>(); }

TEST(RelaxedMask, IsWhatItsFormulaSays) {
  const at::Tensor x = numbers({3, 5}, "x"), u = mask_draws(1, "w", 0, x);
  const at::Tensor mask = relaxed_mask(x, u, 0.5);
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 5; ++j) {
      const double draw = u[i][j].item<double>(), logit = std::log(draw / (1 - draw));
      EXPECT_NEAR(mask[i][j].item<double>(), 1 / (1 + std::exp(-(logit + x[i][j].item<double>()) / 0.5)), 32 * kEps);
    }
}

TEST(RelaxedMask, HasItsExpectedShareOfOnesWhereItIsCold) {
  // Binomial: 20000 draws of 0.7, deviation 0.0032; five of them.
  const at::Tensor x = at::full({20000}, std::log(0.7 / 0.3), at::kDouble);
  const at::Tensor mask = relaxed_mask(x, mask_draws(1, "w", 0, x), 1e-3);
  EXPECT_NEAR(mask.round().mean().item<double>(), 0.7, 0.017);
  EXPECT_LT(largest((mask - mask.round()).abs().median()), 1e-12);
}

TEST(RelaxedMask, IsOneWhereLogitsAreVeryLargeAndStaysFiniteWhereNothingIsLeft) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const at::Tensor x = at::full({7}, 1e4, dtype);
    EXPECT_TRUE(at::equal(rescaled(relaxed_mask(x, mask_draws(1, "w", 0, x), 0.5)), at::ones_like(x)));
    EXPECT_TRUE(at::equal(rescaled(relaxed_mask(-x, mask_draws(1, "w", 0, x), 0.5)), at::zeros_like(x)));
    EXPECT_TRUE(at::equal(logit_slopes(at::zeros_like(x), at::ones_like(x), 0.5), at::zeros_like(x)));
    EXPECT_TRUE(relaxed_mask(at::zeros_like(x), at::zeros_like(x), 0.5).isfinite().all().item<bool>());
  }
}

TEST(RelaxedMask, HasTheSlopesOfAutograd) {
  for (const auto& sizes : {std::vector<int64_t>{4, 3}, std::vector<int64_t>{5}, std::vector<int64_t>{}}) {
    const at::Tensor x = numbers(sizes, "x").requires_grad_(), u = mask_draws(1, "w", 2, x),
                     weights = numbers(sizes, "g");
    const at::Tensor mask = (((u / (1 - u)).log() + x) / 0.7).sigmoid();
    const at::Tensor slopes = torch::autograd::grad({(mask / mask.mean() * weights).sum()}, {x})[0];
    EXPECT_LE(largest(logit_slopes(mask.detach(), weights, 0.7) - slopes), 64 * kEps);
  }
}

TEST(RelaxedMask, DrawsByNameStepAndSeedAlone) {
  const at::Tensor like = at::zeros({4, 5});
  const at::Tensor draws = mask_draws(1, "w", 3, like);
  EXPECT_TRUE(at::equal(draws, mask_draws(1, "w", 3, like)));
  for (const at::Tensor& other :
       {mask_draws(2, "w", 3, like), mask_draws(1, "v", 3, like), mask_draws(1, "w", 4, like)})
    EXPECT_FALSE(at::equal(draws, other));
}

}  // namespace
}  // namespace amalgam
