#pragma once

#include "solvers/methods/matrix_method.h"

namespace amalgam {

/// Task singular vectors, merged: of each α_m d_m the first k = max(1, ⌊n / M⌋) singular triplets, n = min(rows,
/// columns), side by side as U, S, V; then U⊥ diag(S) V⊥ᵀ with the polar factors of U and V, which takes the
/// interference between tasks out. Changes of rank k or less whose column and row spaces are orthogonal are added
/// without loss; M copies of a change give its first k triplets once. (Where tasks share a direction to rounding, or a
/// change has fewer than k, a LoRA adapter's or that of a frozen matrix, the published code has arbitrary directions in
/// the place of those that are not there, which crowd out the other tasks'. Here there are none, nor those of values
/// that rounding the expert to its dtype makes.)
/// @source Gargiulo et al. 2025 (Task Singular Vectors), TSV-Merge, `scale` 1. Its code has k = 0 where M > n, and with
///         it no change at all; here k is 1
class TsvM final : public MatrixMethod {
 protected:
  at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, double rounding,
                           LayerReport& report, const Checkpoint& checkpoint) const override;
};

}  // namespace amalgam
