#pragma once

#include <memory>
#include <optional>
#include <string>

#include "solvers/methods/method.h"
#include "solvers/search/stepwise_search.h"
#include "solvers/search/task_vector_sum.h"

namespace amalgam {

/// A search for the coefficients of a `TaskVectorSum`, step by step.
class CoefficientSearch : public StepwiseSearch {
 public:
  /// The best that there are now: [groups, tasks].
  virtual at::Tensor coefficients() const = 0;
  /// All but groups, tasks and coefficients.
  virtual SearchReport report() const = 0;
};

/// θ0 + Σ_m λ_gm d_m, whose coefficients λ are searched for with the models run, before anything is merged. They start
/// at `start` α_m, one for each task of a weight α_m other than zero and each group of parameters.
///
/// Holds the base and every expert's changes in memory (solvers/search/task_vector_sum.h), and so does whoever runs the
/// models with the models of all tasks.
class CoefficientMethod : public ParameterMethod {
 public:
  explicit CoefficientMethod(std::string grouping) : grouping_(std::move(grouping)) {}

  void search(const MergeInput& input, const SearchWork& work) final;
  std::optional<SearchReport> search_report() const final { return report_; }
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) final;

 protected:
  void declare_options(OptionSet& set) override;
  double start() const { return start_; }
  /// @param vectors  outlives the search
  /// @param start    [groups, tasks]
  virtual std::unique_ptr<CoefficientSearch> begin(const MergeInput& input, const TaskVectorSum& vectors,
                                                   const at::Tensor& start) const = 0;

 private:
  std::string grouping_;
  double start_ = 0.3;
  std::unique_ptr<const TaskVectorSum> vectors_;
  at::Tensor coefficients_;
  std::optional<SearchReport> report_;
};

}  // namespace amalgam
