#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace amalgam {

/// Shrinks second moments S of few samples towards their mean diagonal, in place: S ← (1 − ρ) S + ρ tr(S)/n I, with
///   ρ = min(1, ((1 − 2/n) tr(S²) + tr(S)²) / ((N + 1 − 2/n) (tr(S²) − tr(S)²/n))),
/// which comes near the least mean squared error where the samples are Gaussian. The trace stays; many samples, or a
/// spectrum far from flat, are shrunk little.
/// @param matrices  S [L, n, n], symmetric, floating
/// @param samples   N, how many independent samples each is the mean of; at least 1
/// @return ρ [L]; 1 where S is a multiple of the identity, and where it is zero
/// @source Chen, Wiesel, Eldar & Hero 2010, Shrinkage algorithms for MMSE covariance estimation, equation 23 (OAS)
at::Tensor shrink_to_trace(at::Tensor& matrices, int64_t samples);

/// Draws the tasks' matrices together, in place: B_m ← (1 − p) B_m + p tr(B_m) B̄, B̄ the mean of B_m / tr(B_m) by the
/// weights, item by item over the tasks whose B_m is not zero there. Traces stay; with p = 1 all B_m are multiples of
/// one matrix.
/// @param matrices  of each task: B_m [L, n, n], symmetric, floating, of one shape
/// @param weights   α; a task whose weight is not positive does not count in B̄
/// @param share     p, 0 … 1
void pool_by_trace(const std::vector<at::Tensor>& matrices, const std::vector<double>& weights, double share);

}  // namespace amalgam
