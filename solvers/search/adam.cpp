#include "solvers/search/adam.h"

#include <cmath>

namespace amalgam {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;

}  // namespace

void adam_step(at::Tensor& x, const at::Tensor& gradient, double rate, AdamState& state) {
  if (state.steps == 0) {
    state.mean = at::zeros_like(x);
    state.square = at::zeros_like(x);
  }
  const auto count = static_cast<double>(++state.steps);
  state.mean.mul_(kBeta1).add_(gradient, 1 - kBeta1);
  state.square.mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
  const double bias1 = 1 - std::pow(kBeta1, count), bias2 = 1 - std::pow(kBeta2, count);
  x.addcdiv_(state.mean, (state.square / bias2).sqrt_().add_(kEpsilon), -rate / bias1);
}

}  // namespace amalgam
