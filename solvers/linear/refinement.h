#pragma once

#include "solvers/linear/conjugate_gradient.h"

namespace amalgam {

/// Conjugate gradients with products in float32, and a solution whose true residual is float64's: the residual b − K x
/// is computed in float64, scaled to length one, solved for by `inner` in float32 to a part of what is missing, and the
/// correction added in float64, again and again until the tolerance is met or a round no longer halves the residual.
///
/// `ItemSummary::iterations` counts the float32 iterations of all rounds; `options.iterations` bounds their sum.
/// @param op              float64
/// @param inner           the same operator in float32
/// @param preconditioner  of `inner`; null: none
/// @param rhs, initial    float64
/// @source Higham 2002, Accuracy and Stability of Numerical Algorithms, chapter 12 (iterative refinement)
Solution solve_refined(const LinearOperator& op, const LinearOperator& inner, const at::Tensor& rhs,
                       const at::Tensor& initial, const Preconditioner* preconditioner, const CgOptions& options);

}  // namespace amalgam
