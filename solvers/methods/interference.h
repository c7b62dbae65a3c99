#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace amalgam {

/// How much a merged change D of a matrix disturbs the experts on the inputs that their own changes d_m answer to,
///   f(D) = Σ w_m ‖(D − d_m) d_mᵀ‖²,
/// the rows of d_m standing for the inputs of task m, which gradients are combinations of. It is RegMean's objective
/// with d_mᵀ d_m in the place of the inputs' Gram matrix.
///
/// With Z the rows of all √w_m d_m on one another and Y = [√w_m d_m d_mᵀ] side by side it is ‖D Zᵀ − Y‖². Of the two
/// forms of its normal equations, with Zᵀ Z [columns, columns] and with Z Zᵀ [M rows, M rows], the smaller is used;
/// with the first Y is never made, so that an embedding's M rows² stay away. float64.
/// @source Cheng et al. 2025 (WUDI-Merging), equation 8, with w_m = 1/‖d_m‖²
class Interference {
 public:
  /// @param changes  d_m [rows, columns], float64
  /// @param weights  w_m, not negative
  Interference(const std::vector<at::Tensor>& changes, const std::vector<double>& weights);

  /// ∂f/∂D = 2 (D Zᵀ − Y) Z: [rows, columns].
  at::Tensor gradient(const at::Tensor& change) const;
  /// The D of f(D) + ρ ‖D‖² minimal, ρ = `ridge` times the mean diagonal of ZᵀZ; of several (`ridge` 0, directions that
  /// no expert changed) the smallest. Eigenvalues of no more than ε n of the largest count as zero.
  at::Tensor minimiser(double ridge) const;

 private:
  at::Tensor stacked_;  // Z [M rows, columns]
  bool by_columns_;     // ZᵀZ is no larger than ZZᵀ
  at::Tensor targets_;  // Y [rows, M rows]; undefined by columns
  at::Tensor gram_;     // the smaller of the two
  at::Tensor product_;  // Y Z [rows, columns]
};

}  // namespace amalgam
