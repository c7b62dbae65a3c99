#pragma once

#include <vector>

#include "solvers/methods/matrix_method.h"

namespace amalgam {

/// Steps of Adam (solvers/search/adam.h) on a function of one tensor.
/// @param start     float64
/// @param gradient  ∂f/∂x
/// @param steps     at most; `checkpoint` is called before each
at::Tensor adam(at::Tensor start, const std::function<at::Tensor(const at::Tensor&)>& gradient, int64_t steps,
                double rate, const Checkpoint& checkpoint);

/// WUDI-Merging as published: of each matrix Adam (rate 1e-5, 300 steps) from Σ α_m d_m on
///   f(D) = Σ α_m ‖(D − d_m) d_mᵀ‖² / ‖d_m‖²,
/// by its gradient in closed form, in float64 (the published code: float32 and autograd). What is no matrix is
/// averaged. Adam moves an element by about the rate a step, by 3e-3 in all, which may or may not be as far as the
/// minimum is: `data_free` gives that itself. The report has ‖∂f/∂D‖ relative to that at D = 0, and
/// says that it has converged where that is at most 1e-3. A change that is zero
/// has no term.
/// @source Cheng et al. 2025 (Whoever Started the Interference Should End It)
class Wudi final : public MatrixMethod {
 protected:
  void declare_options(OptionSet& set) override;
  at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, double rounding,
                           LayerReport& report, const Checkpoint& checkpoint) const override;

 private:
  int64_t iterations_ = 300;
  double rate_ = 1e-5;
};

}  // namespace amalgam
