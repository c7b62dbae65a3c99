#pragma once

#include "solvers/methods/matrix_method.h"

namespace amalgam {

/// How many singular triplets are common, and how many each task has of its own: c + M t = n.
struct SpaceShares {
  int64_t common = 0;  ///< c
  int64_t own = 0;     ///< t
};

/// t = round((n − ⌊fraction n⌋) / M), halves to the even number as in the published code, and no more than ⌊n / M⌋
/// (which the code exceeds for small fractions); c = n − M t.
SpaceShares space_shares(int64_t n, int64_t experts, double fraction);

/// Isotropic merging in common and task-specific subspaces. Of a matrix with n = min(rows, columns): U_c, S_c, V_c the
/// first c triplets of Σ α_m d_m; of each task the first t triplets of α_m d_m − U_c U_cᵀ α_m d_m; all side by side, U
/// and V replaced by their polar factors, all singular values by their mean over n. With t = 0 it is Iso-C. Triplets
/// that are not there stay away, where the published code gives arbitrary directions the mean value: where the sum or a
/// task's rest has fewer than c or t above what rounding the experts to their dtype makes (a LoRA adapter's), or where
/// several tasks share one to rounding.
/// @source Marczak et al. 2025 (No Task Left Behind), Iso-CTS: `common_fraction` 0.8, `scale` searched
class IsoCts final : public MatrixMethod {
 protected:
  void declare_options(OptionSet& set) override;
  at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, double rounding,
                           LayerReport& report, const Checkpoint& checkpoint) const override;

 private:
  double common_fraction_ = 0.8;
};

}  // namespace amalgam
