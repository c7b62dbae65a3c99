#include "solvers/methods/adamerging.h"

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

std::unique_ptr<CoefficientSearch> AdaMerging::begin(const MergeInput& input, const TaskVectorSum& vectors,
                                                     const at::Tensor& start) const {
  return std::make_unique<CoefficientDescent>(input, vectors, start, descent_, clamp_);
}

}  // namespace amalgam
