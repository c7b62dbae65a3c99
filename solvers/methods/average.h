#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// Σ α_m θ_m / Σ α_m, computed as a running mean, so that equal experts give exactly themselves. An expert with a
/// negative weight counts as one of weight zero; where no weight is positive all experts count alike. (A method that
/// takes negative weights, as task arithmetic, still needs a mean for what it leaves aside.)
class WeightedMean {
 public:
  /// @param weights  α, one an expert
  explicit WeightedMean(std::vector<double> weights);

  /// @param tensors  gives expert m's tensor, floating; experts of weight zero are not asked for
  at::Tensor operator()(const std::function<at::Tensor(size_t expert)>& tensors) const;

 private:
  std::vector<double> weights_;
};

/// The mean by the tasks' weights.
WeightedMean mean_of_experts(const MergeInput& input);

/// The mean of one parameter or buffer, computed in float32 (float64 where it is stored so).
at::Tensor average_parameter(const MergeInput& input, const std::string& name);

/// The same, rounded to the dtype that it is stored in, with memory for no more than that.
at::Tensor average_in_pieces(const MergeInput& input, const std::string& name);

/// The weighted mean of the experts.
/// @source McMahan et al. 2017; Wortsman et al. 2022 (model soups)
class Average final : public ParameterMethod {
 public:
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;
};

}  // namespace amalgam
