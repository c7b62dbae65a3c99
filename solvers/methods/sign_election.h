#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace amalgam {

/// The sign of Σ w_m d_m, element by element: what most of the experts' changes, by their size, agree on.
/// @param changes    d_m, one an expert, of one shape, floating
/// @param weights    w_m, one an expert
/// @param zero_sign  what stands where the sum is zero: 1, -1, or 0
/// @return of the changes' shape and dtype
at::Tensor elected_sign(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, int zero_sign);

/// Σ w_m d_m / max(Σ w_m, floor), both sums over the experts whose d_m has the elected sign and is not zero; zero where
/// there is none.
/// @param weights  w_m, not negative
/// @param floor    0 or more
at::Tensor mean_of_agreeing(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                            const at::Tensor& sign, double floor = 0.0);

}  // namespace amalgam
