#pragma once

#include "solvers/linear/conjugate_gradient.h"

namespace amalgam {

/// The closed form for K X = α₁ B₁ X A₁ + α₂ B₂ X A₂ (or one term; a missing factor is the identity): in the bases that
/// make both pairs diagonal,
///   x = x0 + V_B (V_Bᵀ (b − K x0) V_A / D) V_Aᵀ,  D_ij = α₁ b₁ᵢ a₁ⱼ + α₂ b₂ᵢ a₂ⱼ,
/// where D is below 1e-12 of its largest element the start stays; then the same once more for what rounding left.
/// Two eigendecompositions for each of A and B, in float64.
/// @param op         gives `kronecker_terms`, one or two
/// @param tolerance  what counts as converged, of the true residual
/// @throws c10::Error if sizes, devices or dtypes disagree, or if there are more than two terms
Solution solve_two_terms(const LinearOperator& op, const at::Tensor& rhs, const at::Tensor& initial, double tolerance);

}  // namespace amalgam
