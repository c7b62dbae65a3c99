#include "solvers/methods/adamerging.h"

#include "core/error.h"
#include "solvers/search/coefficient_descent.h"

namespace amalgam {
namespace {

const RegisterMethod<AdaMerging> registered(
    "adamerging", "coefficients by parameter or task that make predictions on unlabelled inputs sure",
    "Yang et al. 2024 (AdaMerging)");

}  // namespace

MethodRequirements AdaMerging::requirements() const { return {.base = true, .entropy_split = descent_.split}; }

void AdaMerging::declare_options(OptionSet& set) {
  CoefficientMethod::declare_options(set);
  descent_.declare(set, "a coefficient");
  set.flag("clamp", clamp_, "coefficients stay within 0 and 1, as in the authors' code");
}

void AdaMerging::check_tasks(const std::vector<ExpertInput>& experts) const {
  for (const ExpertInput& expert : experts) {
    const double first = start() * expert.weight;
    require_input(!clamp_ || (first >= 0 && first <= 1),
                  "method '{}': the coefficients of task '{}' would start at {} (`start` times its weight), and out of "
                  "0 and 1 they have no slope; give a `start` within, or `clamp: false`",
                  name(), expert.task, first);
  }
}

std::unique_ptr<CoefficientSearch> AdaMerging::begin(const MergeInput& input, const TaskVectorSum& vectors,
                                                     const at::Tensor& start) const {
  check_tasks(input.experts);
  return std::make_unique<CoefficientDescent>(input, vectors, start, descent_, clamp_);
}

}  // namespace amalgam
