#pragma once

#include <vector>

#include "solvers/methods/layer_batch.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// RegMean's normal equations of the layers of a group: the W that is argmin Σ ‖(W − W_m) G_m^½‖² is solved for the
/// change from a reference W* (the base; the average where there is none),
///   W = W* + (Σ (W_m − W*) G_m) (Σ G_m + ρ I)⁻¹,
/// in float64, so that W* stays where no input ever came. G_m is what expert m's Gram matrix became: weighed, shrunk.
class GramEquations {
 public:
  /// @param batch  must outlive this
  explicit GramEquations(const LayerBatch& batch);

  /// Adds an expert; once for each of the batch's experts, in their order.
  /// @param gram  G_m, float64 [L, columns, columns] on the batch's device
  void add(const TensorSource& expert, const at::Tensor& gram);

  /// By Cholesky. Where the sum has no factor the ridge is raised tenfold, and the layer's report says so; where no
  /// expert has a say (all G_m are zero) the layer is averaged.
  /// @param ridge  ρ, relative to the mean diagonal of the sum
  GroupResult solve(double ridge) const;

 private:
  const LayerBatch& batch_;
  at::Tensor reference_;                    // W* [L, rows, columns]
  at::Tensor sum_;                          // Σ G [L, columns, columns]
  at::Tensor rhs_;                          // Σ (W_m − W*) G [L, rows, columns]
  std::vector<at::Tensor> say_;             // tr(G_m) [L]
  std::vector<at::Tensor> effective_rank_;  // of G_m [L]
};

}  // namespace amalgam
