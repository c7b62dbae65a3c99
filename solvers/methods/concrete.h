#pragma once

#include <memory>
#include <optional>
#include <string>

#include "solvers/methods/method.h"
#include "solvers/search/entropy_descent.h"
#include "solvers/search/task_vector_sum.h"

namespace amalgam {

/// Concrete subspace masks: the part of the experts' changes that all tasks can do with, found on inputs whose labels
/// nobody looks at.
///   θ = θ0 + r ⊙ Σ_m scale α_m d_m,   r = σ(x) / mean(σ(x)) of each tensor (`mask: mean`)
/// The logits x of the mask, one an element, go from 0 by Adam to where predictions are sure, each step with a draw of
/// the relaxed mask (solvers/search/mask_descent.h, which says what it holds in memory: about eight times the model,
/// whatever the number of tasks). `mask: drawn` ends with such a draw, as the authors' code does.
///
/// With `coefficients: parameter` (or `block`, `model`) AdaMerging follows, on the changes r ⊙ d_m that the mask
/// leaves: `coefficient_steps` steps from scale α_m, not clamped (the paper's Concrete AdaMerging). It holds every
/// expert's changes. The published form also takes a step of the coefficients before each one of the mask; there is
/// none here.
///
/// As in `adamerging` the inputs are those of `val` by default (the paper: of the test set), one batch a step and task,
/// and the sum over tasks is a mean, which Adam does not tell apart. Steps: the paper's 2000 for the mask; 1000 for the
/// coefficients. A task of weight 0 has no say, and its inputs are not looked at.
/// @source Tang et al. 2023, Concrete Subspace Learning based Interference Elimination for Multi-task Model Fusion
class Concrete final : public ParameterMethod {
 public:
  Concrete() { descent_.steps = 2000; }

  MethodRequirements requirements() const override;
  void search(const MergeInput& input, const SearchWork& work) override;
  std::optional<SearchReport> search_report() const override { return report_; }
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  void find_coefficients(const MergeInput& input, const SearchWork& work, const std::string& identity);

  double scale_ = 0.3, temperature_ = 0.5;
  DescentOptions descent_;
  std::string mask_ = "mean", coefficients_ = "fixed";
  int64_t coefficient_steps_ = 1000;

  NamedTensors masks_;  // r by name
  std::optional<SearchReport> report_;
  std::unique_ptr<TaskVectorSum> vectors_;  // of masked changes; none where coefficients are fixed
  at::Tensor found_;                        // [groups, tasks]
};

}  // namespace amalgam
