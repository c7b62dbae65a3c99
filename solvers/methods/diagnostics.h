#pragma once

#include "solvers/methods/layer_batch.h"

namespace amalgam {

/// What a solve knows of its layers beside the solution.
struct SolveFacts {
  std::vector<at::Tensor> effective_rank;  ///< of each expert's A: [L]; NaN where it is not known
  at::Tensor unseen;  ///< the part of the merged matrices that no task sees, [L, rows, columns]; undefined: none
  bool knows_unseen = true;
};

/// tr(A)² / ‖A‖² of each matrix [L, n, n], 0 where it is zero: how many directions of equal energy would weigh as much.
at::Tensor effective_rank(const at::Tensor& matrices);

/// Writes `LayerReport::diagnostics` of every layer of the batch; an estimate of the condition that is there stays.
/// @param merged  [L, rows, columns]
void diagnose(const LayerBatch& batch, const at::Tensor& merged, const SolveFacts& facts,
              std::vector<LayerReport>& reports);

}  // namespace amalgam
