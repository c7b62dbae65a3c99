#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// θ = θ0 + Σ α_m H̄⁻¹ (H_0 + H_m) (θ_m − θ0),  H̄ = H_0 + Σ α_m H_m, element by element: what the experts' losses and
/// the base's, each replaced by its quadratic approximation, have as their joint minimum.
///
///   H_m = n_m F_m        F_m the diagonal Fisher information, no element below `floor` times its mean over the
///                        parameter; n_m the examples of the statistics, so that a task seen on more data counts for
///                        more. `counts: uniform` leaves n out of every H.
///   H_0 = δ + n_0 F_0    δ the option `prior`, F_0 of the base's own statistics where there are any, else 0
///
/// δ is absolute, as published (1e-12), and weighs against sums over examples; where it rules, the changes of all tasks
/// are *added*. `floor` is relative, and so serves models whose gradients are small: an element that no task has moved
/// gets the weighted mean. A parameter that no task has any information about is averaged, and the report says so.
/// With one task of weight 1 it is that task's expert, with H_0 = 0 it is `fisher` with the weights α_m n_m.
/// Computed in float64.
/// @source Daheim et al. 2024, Model Merging by Uncertainty-Based Gradient Matching (floor 0)
class GradientMatching final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;
  std::string remark(const MergeInput& input, const std::string& name) override;

 private:
  double examples(const Statistics& statistics) const;
  at::Tensor prior_curvature(const MergeInput& input, const std::string& name) const;

  double prior_ = 1e-12;
  double floor_ = 1e-8;
  std::string counts_ = "examples";
};

}  // namespace amalgam
