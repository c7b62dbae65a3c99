#pragma once

#include <map>
#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// TIES: trim each expert's change d_m to its largest elements, elect a sign for each element, and average the changes
/// that have it.
///
///   d̃_m     d_m where |d_m| is among the `density` n largest of its expert's n elements, else 0
///   s       sign of Σ α_m d̃_m
///   merged  θ0 + λ Σ α_m d̃_m / Σ α_m, both sums over the experts whose d̃_m has the sign s and is not zero
///
/// `trim: model` looks at all elements of all parameters that are merged so, and where the sum is zero s is the sign of
/// the sum of all elected signs (minus where that is zero too, as in the authors' code): it takes three passes over the
/// experts before the merge, and memory for one parameter of each. `trim: tensor` looks at each parameter by itself and
/// keeps at least one element of it; a zero counts as plus.
///
/// ⌊density n⌋ elements are kept, and with the last of them all that are equal to it (the authors' code keeps one
/// more). Sizes are compared in float32, also where experts are stored in float64.
///
/// One expert with `density: 1, scale: 1` is that expert, and so are copies of one.
/// @source Yadav et al. 2023, TIES-Merging: density 0.2 and scale 1 without validation data, scales searched from 0.8
///         to 2.5 with it; `trim: tensor` is how mergekit does it
class Ties final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  bool whole_model() const { return trim_ == "model"; }
  /// ⌊density n⌋
  int64_t share_of(int64_t count) const;

  double density_ = 0.2, scale_ = 1.0;
  std::string trim_ = "model";
  std::vector<float> thresholds_;  // of `trim: model`: the least |d_m| that is kept, one a task that has a say
  int zero_sign_ = 1;
};

}  // namespace amalgam
