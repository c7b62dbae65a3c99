#pragma once

#include <memory>
#include <vector>

#include "solvers/methods/inner_method.h"

namespace amalgam {

/// DARE: drops elements of each expert's change from the base at random, scales up what is left, and merges these
/// experts with another method, `inner`:
///
///   θ̃_m = θ0 + b ⊙ (θ_m − θ0) / (1 − p),  b = 1 with probability 1 − p and else 0, for each element by itself
///
/// With `rescale` (else nothing is divided) θ̃_m has the mean θ_m over seeds. The draws depend on the recipe's seed, the
/// task, the parameter and the element alone: the same in any order and in any number of processes.
///
/// The inner method sees θ̃_m wherever it would see θ_m, computed in float32 (float64 where stored so), also in what it
/// plans. Statistics are those of θ_m: a method that needs some is taken, and matches the θ̃_m by what is known of θ_m.
/// An inner method that runs the models is refused: they would run with θ_m; and one that merges the factors of
/// adapters, which are those of θ_m. What is averaged, by `except` say, is the average of θ_m.
/// @source Yu et al. 2024, Language Models are Super Mario (drop rates up to 0.9; 0.5 here suits small experts too)
class Dare final : public InnerMethod {
 public:
  MethodRequirements requirements() const override;
  void plan(const MergeInput& input) override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  double drop_ = 0.5;  ///< p
  bool rescale_ = true;
  std::vector<std::unique_ptr<TensorSource>> experts_;
  MergeInput dropped_;  ///< with these experts
};

}  // namespace amalgam
