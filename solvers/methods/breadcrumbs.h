#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// Model breadcrumbs: of each expert's change in each parameter the largest elements are left out as outliers and the
/// small ones as noise, and what is between is added.
///
///   d̃_m     d_m where the rank of |d_m| among the parameter's n elements, 0 the largest, is from ⌊γ n⌋ to
///           ⌊γ n⌋ + ⌊β n⌋ − 1, else 0; at least one element is kept where γ leaves one
///   merged  θ0 + λ Σ α_m d̃_m
///
/// Of equal elements the earlier one counts as larger; sizes are compared in float32. A negative α unlearns a task.
/// @source Davari & Belilovsky 2024, Model Breadcrumbs: γ 0.01, β and λ tuned on validation data (λ 0.4 by default in
///         their code, which ranks within rows). Ranks over the whole parameter are mergekit's; β 0.1 and λ 1 are ours
class Breadcrumbs final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  double density_ = 0.1;    ///< β
  double outliers_ = 0.01;  ///< γ
  double scale_ = 1.0;      ///< λ
};

}  // namespace amalgam
