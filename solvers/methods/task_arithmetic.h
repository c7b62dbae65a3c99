#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// θ0 + λ Σ α_m (θ_m − θ0). A negative α unlearns a task.
/// @source Ilharco et al. 2023, Editing Models with Task Arithmetic
class TaskArithmetic final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  double scale_ = 0.3;  ///< λ
};

}  // namespace amalgam
