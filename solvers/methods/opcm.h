#pragma once

#include "solvers/methods/continual.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// Continual merging by projection: experts come one after the other, in the recipe's order, and of each matrix only
/// that part of the new change is added which does not overlap with the directions of what is merged already,
///   θ ← θ0 + (λ_prev (θ − θ0) + N')/λ,
/// N' of solvers/methods/continual.h with N = α_m d_m; of other parameters N' = N. One λ for the whole model makes
/// ‖θ − θ0‖ the mean norm of the experts' α_m d_m. N' does not depend on the λ before, so that only the last one has to
/// be known: `plan` goes through the model once for it and merging goes through it again, with one parameter in memory
/// and twice the work. (Of several processes each does the first pass.) Experts of weight 0 do not come. float64.
/// @source Tang et al. 2025 (Merging Models on the Fly Without Retraining), `share` its α of 0.5. The published code
///         projects the weights of linear layers only and shuffles the experts; here a matrix is any parameter of two
///         axes, and the order is the recipe's
class Opcm final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

  /// What a later expert needs to be merged onto this: after `plan`.
  const ContinualState& state() const { return state_; }

 protected:
  void declare_options(OptionSet& set) override;

 private:
  /// Σ N' of one parameter; adds ‖α_m d_m‖² of each expert to `squares`, where given.
  at::Tensor sum_of(const MergeInput& input, const std::string& name, std::vector<double>* squares) const;

  double share_ = 0.5;
  ContinualState state_;
};

}  // namespace amalgam
