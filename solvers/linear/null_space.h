#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// In statistics an eigenvalue below this share of the largest counts as zero. Gram matrices come from float32
/// activations: what lies below is their rounding.
inline constexpr double kNullThreshold = 1e-6;

/// Whether no matrix has a null space, by a Cholesky factorisation: S − t tr(S) I is positive definite only where every
/// eigenvalue is above t tr(S), and so above t λ_max. A no may be wrong where the least eigenvalue is near the
/// threshold.
/// @param matrices  S [L, n, n], symmetric, float64
bool all_regular(const at::Tensor& matrices, double threshold = kNullThreshold);

/// The orthogonal projectors on the null spaces of symmetric positive semi-definite matrices, by eigendecomposition in
/// float64. A zero matrix gives the identity.
/// @param matrices  [L, n, n]
/// @return float64 [L, n, n]; undefined where `all_regular`, at a fraction of the cost
at::Tensor null_space_projector(const at::Tensor& matrices, double threshold = kNullThreshold);

/// What matrices S hardly see of x, without an eigendecomposition: x τ (S + τ I)⁻¹, τ = `threshold` λ_max. Of a
/// direction of energy λ the share τ/(λ + τ) stays: all of a null space, half of what is at the threshold. λ_max is
/// estimated, from below, by power iteration.
/// @param x         [L, rows, n]
/// @param matrices  S [L, n, n], symmetric positive semi-definite; of a zero matrix x stays
/// @return float64 [L, rows, n]
at::Tensor hardly_seen_part(const at::Tensor& x, const at::Tensor& matrices, double threshold = kNullThreshold);

/// Projectors on what two factors of a Kronecker product do not see; undefined where they see everything.
struct NullSpace {
  at::Tensor output;  ///< Π_B float64 [L, out, out]
  at::Tensor input;   ///< Π_A float64 [L, in, in]

  /// x Π_A + Π_B x (I − Π_A): x without what both see. Undefined where both projectors are.
  at::Tensor part(const at::Tensor& x) const;
};

}  // namespace amalgam
