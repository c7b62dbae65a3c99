#pragma once

#include <memory>
#include <string>
#include <vector>

#include "solvers/methods/method.h"
#include "solvers/methods/names_tasks.h"

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
/// An inner method that runs the models is refused: they would run with θ_m. What is averaged, by `except` say, is the
/// average of θ_m.
/// @source Yu et al. 2024, Language Models are Super Mario (drop rates up to 0.9; 0.5 here suits small experts too).
/// The
///         inner default is task_arithmetic with the scale of its own default
class Dare final : public MergeMethod, public NamesTasks {
 public:
  Dare();

  MethodRequirements requirements() const override;
  std::string why_not(const ExpertInput& expert, const LayerMatrix& layer) const override;
  std::string batch_key(const MergeInput& input, const LayerMatrix& layer) const override;
  void check_tasks(const std::vector<ExpertInput>& experts) const override { check_task_names(*method_, experts); }
  void plan(const MergeInput& input) override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  double drop_ = 0.5;  ///< p
  bool rescale_ = true;
  YAML::Node inner_;
  std::unique_ptr<MergeMethod> method_;
  std::vector<std::unique_ptr<TensorSource>> experts_;
  MergeInput dropped_;  ///< with these experts
};

}  // namespace amalgam
