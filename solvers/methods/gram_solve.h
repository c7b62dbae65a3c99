#pragma once

#include <vector>

#include "solvers/methods/layer_batch.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// The sums of RegMean's normal equations, of the layers of a group. They depend neither on λ nor on the ridge:
/// settings that differ in these alone share them.
struct GramSums {
  /// Nothing added yet.
  explicit GramSums(const LayerBatch& batch);

  /// Adds an expert; once for each of the batch's experts, in their order.
  /// @param gram  G_m, what became of the expert's Gram matrix by weights: float64 [L, columns, columns]
  /// @throws InputError if the expert holds a value that is not finite
  void add(const LayerBatch& batch, const ExpertInput& expert, const at::Tensor& gram);

  at::Tensor reference;                    ///< W* [L, rows, columns]
  at::Tensor gram;                         ///< Σ G [L, columns, columns]
  at::Tensor change;                       ///< Σ (W_m − W*) G [L, rows, columns]
  at::Tensor diagonal;                     ///< Σ (W_m − W*) diag(G) [L, rows, columns]
  std::vector<at::Tensor> say;             ///< tr(G_m) [L]
  std::vector<at::Tensor> effective_rank;  ///< of G_m [L]
};

/// The W that is argmin Σ ‖(W − W_m) G̃_m^½‖², solved for the change from a reference W* (the base; the average where
/// there is none),
///   W = W* + (Σ (W_m − W*) G̃_m) (Σ G̃_m + ρ I)⁻¹,  G̃ = λ G + (1 − λ) diag(G),
/// in float64 by Cholesky, so that W* stays where no input ever came. Where the sum has no factor the ridge is raised
/// tenfold, and the layer's report says so; where that does not help up to 1e-2 the layer has not converged and is W*.
/// Where no expert has a say (all G_m are zero) the layer is averaged.
/// @param off_diagonal  λ
/// @param ridge         ρ, relative to the mean diagonal of the sum
GroupResult solve_gram(const LayerBatch& batch, const GramSums& sums, double off_diagonal, double ridge);

}  // namespace amalgam
