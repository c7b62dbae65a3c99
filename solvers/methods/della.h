#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

/// DELLA: drops elements of each expert's change at random, small ones rather than large ones, scales up what is left,
/// elects a sign for each element and averages the changes that have it.
///
///   q       (1 − p) − ε + 2 ε (rank − 1) / (n − 1): the probability that an element stays. Its rank is that of |d_m|
///           among the n elements of its row, 1 the smallest; ε is half of `window`, and where n is 1 q = 1 − p
///   d̃_m     d_m / q where it stays, else 0
///   s       sign of Σ α_m d̃_m, plus where that is zero
///   merged  θ0 + λ Σ α_m d̃_m / Σ α_m, both sums over the experts whose d̃_m has the sign s and is not zero
///
/// Sizes are compared in float32, and of equal ones the earlier counts as smaller. A row is what belongs to one index
/// of the first axis; a parameter of one axis is one row. The draws depend on the recipe's seed, the task, the
/// parameter and the element alone.
/// @source Deep, Bhardwaj & Poria 2024, DELLA-Merging. With `window: 0` it is DARE inside a TIES that trims nothing
class Della final : public ParameterMethod {
 public:
  MethodRequirements requirements() const override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  /// q of every element of some rows, one after the other.
  at::Tensor stay_probability(const at::Tensor& change, int64_t row) const;
  /// @param row    elements of one
  /// @param first  the place of the first element
  at::Tensor merge_rows(const MergeInput& input, const std::string& name, int64_t row, int64_t first) const;

  double drop_ = 0.3;     ///< p
  double window_ = 0.14;  ///< 2 ε
  double scale_ = 1.1;    ///< λ
};

}  // namespace amalgam
