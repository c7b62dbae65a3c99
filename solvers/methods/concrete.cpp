#include "solvers/methods/concrete.h"

#include <fmt/format.h>

#include "core/error.h"
#include "solvers/methods/task_vectors.h"
#include "solvers/search/coefficient_descent.h"
#include "solvers/search/mask_descent.h"

namespace amalgam {
namespace {

const RegisterMethod<Concrete> registered(
    "concrete", "a mask of the experts' changes that makes predictions on unlabelled inputs sure",
    "Tang et al. 2023 (Concrete)");

constexpr const char* kFixed = "fixed";

std::vector<std::string> with_fixed(const std::vector<std::string>& groupings) {
  std::vector<std::string> choices = {kFixed};
  choices.insert(choices.end(), groupings.begin(), groupings.end());
  return choices;
}

}  // namespace

MethodRequirements Concrete::requirements() const { return {.base = true, .entropy_split = descent_.split}; }

void Concrete::declare_options(OptionSet& set) {
  set.real("scale", scale_, {}, "of the experts' changes, times the task's weight");
  descent_.declare(set, "a logit of the mask");
  set.real("temperature", temperature_, {1e-3, 1e3}, "of the mask's draws, T: near 0 they are zeros and ones");
  set.choice("mask", mask_, {"mean", "drawn"}, "at the end: σ(x), or one draw of it");
  set.choice("coefficients", coefficients_, with_fixed(TaskVectorSum::groupings()),
             "fixed: all are `scale`; else found for the mask by AdaMerging: one a task and parameter, block or model");
  set.integer("coefficient_steps", coefficient_steps_, {0, 1e9}, "of Adam, for the coefficients after the mask");
}

void Concrete::configure(const std::string& where) {
  require_input(coefficients_ != kFixed || coefficient_steps_ == Concrete().coefficient_steps_,
                "{}.coefficient_steps: with `coefficients: fixed` none are searched for; leave it out, or say which "
                "coefficients are (parameter, block or model)",
                where);
}

void Concrete::search(const MergeInput& input, const SearchWork& work) {
  const std::string identity = fmt::format("{}\n{}\n{}", name(), yaml_text(write_options()), input.seed);
  {
    MaskDescent descent(input, summed_parameters(input, *this), scale_, descent_, temperature_);
    run_search(descent, work, identity + "\nmask");
    masks_ = descent.masks(mask_ == "drawn");
    report_ = descent.report();
  }
  if (coefficients_ != kFixed) find_coefficients(input, work, identity);
}

void Concrete::find_coefficients(const MergeInput& input, const SearchWork& work, const std::string& identity) {
  vectors_ = std::make_unique<TaskVectorSum>(input, *this, coefficients_);
  for (const auto& [name, mask] : masks_) vectors_->scale_changes(name, mask);
  masks_.clear();
  DescentOptions options = descent_;
  options.steps = coefficient_steps_;
  CoefficientDescent descent(input, *vectors_, vectors_->uniform(scale_), options, /*clamp=*/false);
  run_search(descent, work, identity + "\ncoefficients");
  found_ = descent.coefficients();
  const SearchReport after = descent.report();
  const auto mask_steps = static_cast<int64_t>(report_->curve.size());
  for (const SearchPoint& point : after.curve) report_->curve.push_back({mask_steps + point.spent, point.value});
  report_->why = fmt::format("the mask: {}; from step {} on the coefficients: {}", report_->why, mask_steps, after.why);
  vectors_->describe(found_, *report_);
}

at::Tensor Concrete::merge_parameter(const MergeInput& input, const std::string& name) {
  TORCH_CHECK(report_.has_value(), "merging before the search");
  if (vectors_) return vectors_->parameter(name, found_);
  const HeardVectors heard = heard_task_vectors(input, name);
  at::Tensor sum = at::zeros_like(masks_.at(name));
  for (size_t m = 0; m < heard.changes.size(); ++m) sum.add_(heard.changes[m], scale_ * heard.weights[m]);
  return read_parameter(*input.base, name, input.device) + masks_.at(name) * sum;
}

}  // namespace amalgam
