#pragma once

#include <vector>

#include "core/low_rank.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// A method that merges the factors of adapters, weight by weight: the merged weight is θ0 + B A of the merged factors.
/// What no adapter changes is averaged.
class AdapterMethod : public ParameterMethod {
 public:
  MethodRequirements requirements() const override { return {.base = true, .adapters = true}; }
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) final;

 protected:
  /// @param changes  of the experts in their order, the scale in B; float64 where the weight is stored so, else float32
  /// @param weights  α, not negative
  virtual LowRank merge_factors(const MergeInput& input, const std::string& weight, const std::vector<LowRank>& changes,
                                const std::vector<double>& weights) = 0;
};

}  // namespace amalgam
