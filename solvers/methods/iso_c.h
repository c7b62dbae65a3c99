#pragma once

#include "solvers/methods/matrix_method.h"

namespace amalgam {

/// Isotropic merging in the common subspace: Σ α_m d_m = U S Vᵀ becomes mean(S) U Vᵀ, times `scale` (published search:
/// 0.1 to 3). The mean is over all min(rows, columns) values. A sum that has all its values alike stays as it is.
/// Directions in which the sum has nothing, or no more than rounding the experts to their dtype makes, stay zero, where
/// the published code gives arbitrary ones the mean value: a sum of adapters has few directions of its own.
/// @source Marczak et al. 2025 (No Task Left Behind), Iso-C; as its code, which averages what is not a matrix
class IsoC final : public MatrixMethod {
 protected:
  at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, double rounding,
                           LayerReport& report, const Checkpoint& checkpoint) const override;
};

}  // namespace amalgam
