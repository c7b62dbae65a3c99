#include "models/plain_execution.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include "core/random.h"
#include "models/entropy.h"
#include "models/torchscript_runner.h"

namespace amalgam {
namespace {

at::Tensor numbers(at::IntArrayRef shape, const std::string& label) {
  return at::randn(shape, RandomStream(3, label).generator());
}

TEST(PlainExecution, GivesTheSameBitsInEveryPass) {
  torch::jit::Module module("Layers");
  module.register_parameter("weight", numbers({5, 4}, "weight"), false);
  module.define(
      "def forward(self, x):\n    a = torch.linear(x, self.weight)\n    return torch.tanh(a) * torch.sigmoid(a) + a * "
      "a\n");
  const auto model = runner_from_module(module);
  Batch batch;
  batch.inputs = {numbers({33, 4}, "x")};
  batch.target = at::zeros({33}, at::kLong);
  batch.count = 33;
  const PlainExecution plain;
  const EntropyGradient first = entropy_gradient(*model, batch, {}, {"weight"});
  for (int i = 0; i < 5; ++i) {
    const EntropyGradient again = entropy_gradient(*model, batch, {}, {"weight"});
    EXPECT_EQ(again.value, first.value);
    EXPECT_TRUE(at::equal(again.gradient.at("weight"), first.gradient.at("weight")));
  }
}

TEST(PlainExecution, PutsTheModeBack) {
  const bool before = torch::jit::getProfilingMode();
  {
    const PlainExecution plain;
    EXPECT_FALSE(torch::jit::getProfilingMode());
  }
  EXPECT_EQ(torch::jit::getProfilingMode(), before);
}

TEST(UnoptimisedExecution, PutsTheModeBack) {
  const bool before = torch::jit::getGraphExecutorOptimize();
  {
    const UnoptimisedExecution plain;
    EXPECT_FALSE(torch::jit::getGraphExecutorOptimize());
  }
  EXPECT_EQ(torch::jit::getGraphExecutorOptimize(), before);
}

}  // namespace
}  // namespace amalgam
