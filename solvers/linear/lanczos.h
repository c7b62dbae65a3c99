#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <span>

namespace amalgam {

/// An estimate of the condition number of what conjugate gradients iterated on: the ratio of the largest to the
/// smallest Ritz value, the eigenvalues of Lanczos' tridiagonal matrix, which the steps' coefficients give:
///   T_kk = 1/α_k + β_{k−1}/α_{k−1},  T_{k,k+1} = √β_k / α_k.
/// From below: the extreme Ritz values lie within the spectrum and approach its ends. The first 300 steps are used.
/// @param alpha  α_0 … α_{n−1}, positive
/// @param beta   β_0 … (at least n − 1 of them), not negative
/// @return nothing for fewer than two steps
/// @source Golub & Van Loan, Matrix Computations, section 10.2 (the connection of conjugate gradients and Lanczos)
std::optional<double> condition_estimate(std::span<const double> alpha, std::span<const double> beta);

}  // namespace amalgam
