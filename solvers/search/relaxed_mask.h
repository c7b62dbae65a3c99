#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

namespace amalgam {

/// A draw of a relaxed Bernoulli mask with the logits x, which has slopes by x where a mask of zeros and ones has none:
///   m = σ((logit u + x) / T),   u uniform in (0, 1)
/// As T goes to 0 it becomes a mask of zeros and ones, an element being 1 with probability σ(x).
/// @param logits, draws  x and u, of one shape, dtype and device; m has the same
/// @param temperature    T
/// @source Maddison, Mnih & Teh 2017, The Concrete Distribution, section 3.3 and appendix B
at::Tensor relaxed_mask(const at::Tensor& logits, const at::Tensor& draws, double temperature);

/// r = m / mean(m), so that a mask which is the same everywhere is 1, and zeros where m is zero everywhere.
at::Tensor rescaled(const at::Tensor& mask);

/// ∂L/∂x_i of a function L of r, r = m / μ, μ = mean(m), m = relaxed_mask(x, u, T):
///   m_i (1 − m_i) / (T μ) · (∂L/∂r_i − mean_j(r_j ∂L/∂r_j))
/// @param mask    m
/// @param slopes  ∂L/∂r
at::Tensor logit_slopes(const at::Tensor& mask, const at::Tensor& slopes, double temperature);

/// u of one parameter's mask at one step: they depend on the seed, the name and the step alone.
/// @return of `like`'s sizes, dtype and device, drawn on the CPU
at::Tensor mask_draws(uint64_t seed, const std::string& parameter, uint64_t step, const at::Tensor& like);

}  // namespace amalgam
