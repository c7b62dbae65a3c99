#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "solvers/methods/method.h"
#include "solvers/methods/start.h"

namespace amalgam {

struct VectorFisherOptions {
  bool by_trace = true;  ///< F_m / tr(F_m), so that a task which has fitted its data keeps its say; else F_m as it is
  double damping = 0.0;  ///< δ
  double off_diagonal = 1.0;  ///< λ
};

/// What one expert says of a vector of n elements.
struct VectorTerm {
  double weight = 1.0;  ///< α ≥ 0
  at::Tensor fisher;    ///< F_m float64 [n, n], symmetric positive semi-definite
  at::Tensor vector;    ///< θ_m float64 [n]
};

struct VectorSolution {
  at::Tensor merged;      ///< float64 [n]
  double residual = 0.0;  ///< ‖b − Kx‖ / ‖b‖ within the directions that are seen
  int64_t unseen = 0;     ///< directions in which no task has any information
};

/// θ = θ* + K⁻¹ Σ α_m F_m (θ_m − θ*),  K = Σ α_m F_m, with the whole Fisher matrices of a vector, in float64.
///
/// F_m is made ready in this order: `by_trace` divides it by its trace; λ scales its elements beside the diagonal;
/// damping adds δ tr(F_m)/n I. With all F_m equal it is the weighted mean, and so it is, with the weights α_m tr(F_m),
/// for δ → ∞. Where the eigenvalue of K is below `kNullThreshold` of the largest (linear/null_space.h) no task has any
/// information, and the start stays. Where a Cholesky factorisation tells that there is no such direction, another one
/// solves; else K is decomposed. Neither the order of the terms nor a common factor of the F_m changes θ, but for
/// rounding.
/// @param reference  θ* [n]: it matters only to rounding and to what the residual is relative to
/// @param start      [n]
/// @throws c10::Error if there is no term, or shapes disagree
/// @source Tam, Bansal & Raffel 2023, Merging by Matching Models in Task Parameter Subspaces, (IA)³ (damping 0, by ten
///         iterations of conjugate gradients)
VectorSolution match_vectors(std::vector<VectorTerm> terms, const at::Tensor& reference, const at::Tensor& start,
                             const VectorFisherOptions& options);

/// Merges parameters that are one vector each, by `match_vectors` around the base (the average where there is none).
/// A task whose Fisher matrix is zero has no say; where that is all of them the vector is averaged; both are reported.
GroupResult merge_vectors(const MergeInput& input, const std::vector<std::string>& parameters,
                          const VectorFisherOptions& options, const Start& start, const Checkpoint& checkpoint);

}  // namespace amalgam
