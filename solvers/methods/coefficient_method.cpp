#include "solvers/methods/coefficient_method.h"

#include <fmt/format.h>

namespace amalgam {

void CoefficientMethod::declare_options(OptionSet& set) {
  set.choice("coefficients", grouping_, TaskVectorSum::groupings(),
             "one a task and parameter; block, of names that agree up to their first number; or model");
  set.real("start", start_, {}, "the coefficients at the start, times the task's weight");
}

void CoefficientMethod::search(const MergeInput& input, const SearchWork& work) {
  vectors_ = std::make_unique<const TaskVectorSum>(input, *this, grouping_);
  const auto search = begin(input, *vectors_, vectors_->uniform(start_));
  run_search(*search, work, fmt::format("{}\n{}\n{}", name(), yaml_text(write_options()), input.seed));
  coefficients_ = search->coefficients();
  report_ = search->report();
  vectors_->describe(coefficients_, *report_);
}

at::Tensor CoefficientMethod::merge_parameter(const MergeInput&, const std::string& name) {
  TORCH_CHECK(vectors_ != nullptr, "merging before the search");
  return vectors_->parameter(name, coefficients_);
}

}  // namespace amalgam
