#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// Σ α_m F_m θ_m / Σ α_m F_m, element by element; F_m is the mean over examples of the per-example gradient squared,
/// floored at `floor` times its mean over the parameter, so that elements that no task has moved are averaged. A task
/// whose F_m is zero throughout has no say; where that is all of them the parameter is averaged, and the report says
/// so. Computed in float64.
/// @source Matena & Raffel 2022, Merging Models with Fisher-Weighted Averaging
class Fisher final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;
  std::string remark(const MergeInput& input, const std::string& name) override;

 private:
  double floor_ = 1e-8;
};

}  // namespace amalgam
