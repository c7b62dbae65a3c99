#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace amalgam {

/// What Adam keeps from step to step: all that one who goes on with it needs.
struct AdamState {
  at::Tensor mean, square;  ///< running means of the gradient and of its square; not defined before the first step
  int64_t steps = 0;
};

/// One step of Adam, in place, without weight decay:
///   m ← β1 m + (1 − β1) g,  v ← β2 v + (1 − β2) g²,  x ← x − rate · m/(1 − β1ᵗ) / (√(v/(1 − β2ᵗ)) + ε),
/// β1 = 0.9, β2 = 0.999, ε = 1e-8.
/// @param x         of any shape, dtype and device; `gradient` has the same
/// @source Kingma & Ba 2015, algorithm 1
void adam_step(at::Tensor& x, const at::Tensor& gradient, double rate, AdamState& state);

}  // namespace amalgam
