#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// Two symmetric positive semi-definite matrices in a basis that makes both diagonal, for a batch, float64:
///   Vᵀ S₁ V = diag(first),  Vᵀ S₂ V = diag(second),  Vᵀ (S₁/t₁ + S₂/t₂) V = I,
/// t their traces (a zero matrix stands aside). Where S₁/t₁ + S₂/t₂ has a null space (eigenvalues of no more than 1e-12
/// of the largest), as many columns of V are zero, and so are their values.
struct SimultaneousEigen {
  at::Tensor basis;          ///< V [L, n, n]
  at::Tensor first, second;  ///< [L, n], not negative
};

/// @param first, second  [L, n, n]
/// @source Golub & Van Loan, Matrix Computations, section 8.7 (the symmetric-definite generalised eigenproblem)
SimultaneousEigen simultaneous_eigen(const at::Tensor& first, const at::Tensor& second);

}  // namespace amalgam
