#pragma once

#include <string>
#include <vector>

#include "solvers/linear/conjugate_gradient.h"
#include "solvers/methods/matrix_method.h"

namespace amalgam {

/// RegMean without data (`form: regmean`): of each matrix the change D that solves
///   D (Σ w_m d_mᵀ d_m + ρ I) = Σ w_m d_m d_mᵀ d_m,
/// the changes' own rows in the place of the layers' inputs; w_m = α_m / ‖d_m‖² (`normalise: norm`), which with
/// `ridge: 0` is the exact minimiser of the objective that `wudi` approaches, or w_m = α_m (`none`). ρ is `ridge` times
/// the mean diagonal of the sum: without it small directions in which the tasks disagree grow like 1/σ. Directions that
/// no expert changed stay the base's. What is no matrix is averaged.
///
/// `form: mats` is MaTS without data: the changes stand for both factors, A_m = d_mᵀ d_m and B_m = d_m d_mᵀ:
///   Σ w_m B̃_m D A_m = Σ w_m B̃_m d_m A_m,  B̃ = B + δ (tr B / rows) I,
/// with w_m = α_m / ‖d_m‖⁴ (`normalise: norm`; tr A_m = tr B_m = ‖d_m‖²), by preconditioned conjugate gradients from
/// the base. With δ without bound it is the system above without ridge, of w_m d_mᵀ d_m (`normalise: norm`). A matrix
/// of more than 4096 rows (an embedding) has B̃ = I, and its report says so.
/// What a form has no use for is refused: of `regmean` what steers the gradients (`iterations`, `tolerance`, …) and
/// `damping`, of `mats` the `ridge`.
/// @source the objective: Cheng et al. 2025 (WUDI-Merging); the systems: Jin et al. 2023 (RegMean), Tam et al. 2023
///         (MaTS). The combinations and their defaults are ours
class DataFree final : public MatrixMethod {
 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;
  at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, double rounding,
                           LayerReport& report, const Checkpoint& checkpoint) const override;

 private:
  static constexpr int64_t kMostRows = 4096;  ///< whose B is made

  at::Tensor solve_both(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, LayerReport& report,
                        const Checkpoint& checkpoint) const;

  std::string form_ = "regmean";  ///< or "mats"
  std::string normalise_ = "norm";
  double ridge_ = 1e-6;
  double damping_ = 1.0;  ///< δ
  CgOptions cg_;
};

/// α_m / ‖d_m‖², 0 where d_m is zero.
std::vector<double> weights_by_norm(const std::vector<at::Tensor>& changes, const std::vector<double>& weights);

}  // namespace amalgam
