#pragma once

#include <string>
#include <utility>
#include <vector>

#include "solvers/methods/method.h"
#include "solvers/methods/names_tasks.h"

namespace amalgam {

/// One number a task, as an option gives them: `{left: 0.7, right: 0.3}`, or `[0.7, 0.3]` in the recipe's order.
class TaskWeights {
 public:
  /// @throws InputError unless it is a map or a list of finite numbers; empty for an undefined or null node
  static TaskWeights read(const YAML::Node& node, const std::string& where);

  bool empty() const { return values_.empty(); }
  /// One weight an expert, in their order.
  /// @throws InputError if a task is unknown or left out, or if there are more or fewer than experts
  std::vector<double> resolve(const std::vector<ExpertInput>& experts) const;

 private:
  std::vector<std::pair<std::string, double>> values_;  // task, empty in a list
  std::string where_;
};

/// An entry of `by_layer`: weights of the parameters whose names fit a pattern.
struct WeightRule {
  std::string pattern;
  YAML::Node weights;

  void declare(OptionSet& set);
};

/// Σ w_m θ_m, divided by Σ w_m (`normalise`, the default), parameter by parameter. The weights are those of the first
/// entry of `by_layer` whose pattern fits the parameter, else `weights`, else the tasks' weights α; they stand in the
/// place of α, and may be negative. Normalised weights give equal experts themselves, to the bit. Buffers are the mean
/// by these weights, negative ones taken for 0: a variance must not be extrapolated.
/// @throws InputError in `plan` for a pattern that no parameter fits; in `check_tasks` for weights of sum 0 that are to
///         be normalised
/// @source Wortsman et al. 2022 (model soups); the options as in mergekit
class Linear final : public ParameterMethod, public NamesTasks {
 public:
  MethodRequirements requirements() const override;
  void check_tasks(const std::vector<ExpertInput>& experts) const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;
  std::vector<double> buffer_weights(const MergeInput& input, const std::string& name) const override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  /// `weights` (i = 0) or those of rule i − 1, one an expert: divided by their sum where that is wanted.
  std::vector<double> applied(size_t i, const std::vector<ExpertInput>& experts) const;
  const std::vector<double>& weights_of(const std::string& name) const;
  at::Tensor sum_of(const MergeInput& input, const std::string& name, const std::vector<double>& weights) const;

  YAML::Node weights_node_;
  std::vector<WeightRule> by_layer_;
  bool normalise_ = true;
  std::string where_;
  std::vector<TaskWeights> given_;            // `weights`, then one a rule
  std::vector<std::vector<double>> planned_;  // the same, one an expert, as they are applied
};

}  // namespace amalgam
