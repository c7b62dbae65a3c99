#pragma once

#include <memory>
#include <vector>

#include "solvers/methods/coefficient_method.h"
#include "solvers/methods/names_tasks.h"
#include "solvers/search/entropy_descent.h"

namespace amalgam {

/// AdaMerging: the coefficients of θ(λ) = θ0 + Σ_m λ_gm d_m that make the merged model sure of what it says of inputs
/// whose labels nobody looks at. By Adam,
///   min L(λ) = mean over the tasks of positive weight of the mean entropy of task m's predictions on a batch of its
///              inputs,   ∂L/∂λ_gm = Σ_{p in g} ⟨∂L/∂θ_p, d_mp⟩,
/// with 0 ≤ λ ≤ 1 (`clamp`): what goes out of these bounds counts as the bound and has no slope, so that a start out
/// there is refused. A step takes one pass forward and back through each task's model, and no graph through the merge.
///
/// `coefficients: parameter` is the paper's layer-wise AdaMerging (its layers are parameter tensors), `model` its
/// task-wise one. The inputs are those of `split`: `val` by default, so that nothing is fitted to what the report is
/// of; the paper takes the test inputs (`split: test`). The authors' code differs from the paper: 500 steps, two
/// batches of 16 a step, and the coefficients are clamped. Here a step takes one batch; the sum over tasks is a mean,
/// which Adam does not tell apart.
/// @source Yang et al. 2024, AdaMerging: Adaptive Model Merging for Multi-Task Learning; defaults: the authors' code
class AdaMerging final : public CoefficientMethod, public NamesTasks {
 public:
  AdaMerging() : CoefficientMethod("parameter") {}

  MethodRequirements requirements() const override;
  /// Whether each task's coefficients, `start` times its weight, start where they have a slope.
  void check_tasks(const std::vector<ExpertInput>& experts) const override;

 protected:
  void declare_options(OptionSet& set) override;
  std::unique_ptr<CoefficientSearch> begin(const MergeInput& input, const TaskVectorSum& vectors,
                                           const at::Tensor& start) const override;

 private:
  DescentOptions descent_;
  bool clamp_ = true;
};

}  // namespace amalgam
