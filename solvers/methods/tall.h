#pragma once

#include <string>
#include <vector>

#include "solvers/methods/names_tasks.h"
#include "solvers/methods/task_part_method.h"

namespace amalgam {

/// TALL masks: a bit an element and task says whether the task takes the sum of all tasks' changes there, or the base.
///
///   merged  θ0 + scale · d_MT, of the weighted changes d_m = α_m (θ_m − θ0), d_MT = Σ d_m
///   mask_m  |d_m| > λ_m |d_MT − d_m|  (tall_mask.h)
///   task m  θ0 + mask_m ⊙ scale · d_MT: `merged` where the mask is set, else θ0
///
/// What is merged is task arithmetic with `scale`, and by itself it is a model for a task that has no mask; with the
/// default scale, which the masks want, it is seldom a good one. A task of weight 0 has no mask. All in float64, so
/// that the task of one expert alone is that expert, bit for bit.
/// @source Wang et al. 2024, Localizing Task Information for Improved Model Merging and Compression: scale 1,
///         λ_m chosen on validation data from 0.2 to 0.6; 0.4 is the default here
class Tall final : public ParameterMethod, public NamesTasks, public TaskPartMethod {
 public:
  MethodRequirements requirements() const override;
  void check_tasks(const std::vector<ExpertInput>& experts) const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;
  NamedTensors task_parts(const MergeInput& input, const std::string& parameter, const at::Tensor& merged) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  double scale_ = 1.0;
  std::vector<double> mask_scale_{0.4};  ///< λ_m, one for all tasks or one each
  std::string where_;
};

}  // namespace amalgam
