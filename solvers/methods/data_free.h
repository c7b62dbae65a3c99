#pragma once

#include <string>
#include <vector>

#include "solvers/methods/matrix_method.h"

namespace amalgam {

/// RegMean without data: of each matrix the change D that solves
///   D (Σ w_m d_mᵀ d_m + ρ I) = Σ w_m d_m d_mᵀ d_m,
/// the changes' own rows in the place of the layers' inputs; w_m = α_m / ‖d_m‖² (`normalise: norm`), which with
/// `ridge: 0` is the exact minimiser of the objective that `wudi` approaches, or w_m = α_m (`none`). ρ is `ridge` times
/// the mean diagonal of the sum: without it small directions in which the tasks disagree grow like 1/σ. Directions that
/// no expert changed stay the base's. What is no matrix is averaged.
/// @source the objective: Cheng et al. 2025 (WUDI-Merging); the system: Jin et al. 2023 (RegMean). The combination and
///         its defaults are ours
class DataFree final : public MatrixMethod {
 protected:
  void declare_options(OptionSet& set) override;
  at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                           LayerReport& report, const Checkpoint& checkpoint) const override;

 private:
  std::string normalise_ = "norm";
  double ridge_ = 1e-6;
};

/// α_m / ‖d_m‖², 0 where d_m is zero.
std::vector<double> weights_by_norm(const std::vector<at::Tensor>& changes, const std::vector<double>& weights);

}  // namespace amalgam
