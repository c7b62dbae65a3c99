#include "solvers/search/adam.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

#include "core/random.h"

namespace amalgam {
namespace {

TEST(Adam, GoesTheWayOfLibTorchs) {
  const at::Tensor start = at::randn({3, 4}, RandomStream(1, "start").generator(), at::kDouble);
  const at::Tensor scale = at::rand({3, 4}, RandomStream(1, "scale").generator(), at::kDouble);
  at::Tensor theirs = start.clone().requires_grad_();
  torch::optim::Adam optimiser({theirs}, torch::optim::AdamOptions(0.01));
  at::Tensor ours = start.clone();
  AdamState state;
  for (int i = 0; i < 50; ++i) {
    optimiser.zero_grad();
    (scale * theirs.sin()).sum().backward();
    optimiser.step();
    adam_step(ours, scale * ours.cos(), 0.01, state);
  }
  EXPECT_EQ(state.steps, 50);
  EXPECT_TRUE(at::allclose(ours, theirs.detach(), 0, 1e-13));
}

TEST(Adam, MovesByTheRateAtFirstWhateverTheSlope) {
  at::Tensor x = at::zeros({2}, at::kDouble);
  AdamState state;
  adam_step(x, at::tensor({1e3, -1e-3}, at::kDouble), 0.25, state);
  EXPECT_NEAR(x[0].item<double>(), -0.25, 1e-9);
  EXPECT_NEAR(x[1].item<double>(), 0.25, 1e-5);
}

}  // namespace
}  // namespace amalgam
