#pragma once

#include <memory>
#include <string>

#include "solvers/methods/coefficient_method.h"

namespace amalgam {

/// The coefficients of θ(λ) = θ0 + Σ_m λ_gm d_m with the best score on `val`, found by CMA-ES
/// (solvers/search/cma_es.h): the mean over all tasks of their metrics, divided by the expert's where a metric can be
/// divided, as `search` compares settings. No gradients; as many looks at all of `val` as there are evaluations, which
/// the record counts.
///
/// A model with an output that is not finite has no score, and counts as the worst. The start is the first evaluation,
/// and the best point of all is taken: on `val` the result is never worse than `task_arithmetic` with `scale` at the
/// start.
/// @source Hansen 2016 (CMA-ES); its use on the coefficients of merges: Akiba et al. 2024, Evolutionary Optimization of
/// Model Merging Recipes
class CmaEsMerging final : public CoefficientMethod {
 public:
  CmaEsMerging() : CoefficientMethod("block") {}

  MethodRequirements requirements() const override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;
  std::unique_ptr<CoefficientSearch> begin(const MergeInput& input, const TaskVectorSum& vectors,
                                           const at::Tensor& start) const override;

 private:
  int64_t evaluations_ = 300, population_ = 0, patience_ = 0;
  double step_ = 0.1;
  std::string covariance_ = "full";
};

}  // namespace amalgam
