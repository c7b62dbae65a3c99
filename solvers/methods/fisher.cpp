#include "solvers/methods/fisher.h"

#include "solvers/methods/average.h"
#include "solvers/methods/information.h"

namespace amalgam {
namespace {

const RegisterMethod<Fisher> registered("fisher", "the mean weighted by each expert's diagonal Fisher information",
                                        "Matena & Raffel 2022");

}  // namespace

MethodRequirements Fisher::requirements() const { return {.statistics = {StatisticKind::kSquaredGradient}}; }

void Fisher::declare_options(OptionSet& set) {
  set.real("floor", floor_, {0, 1}, "least information of an element, relative to the parameter's mean");
}

std::string Fisher::remark(const MergeInput& input, const std::string& name) {
  return anyone_knows(input, name) ? "" : kAveragedUnknown;
}

at::Tensor Fisher::merge_parameter(const MergeInput& input, const std::string& name) {
  at::Tensor mean, total;  // the running weighted mean and its weight, element by element: equal experts stay exact
  for (const ExpertInput& expert : input.experts) {
    const at::Tensor tensor = read_parameter(*expert.tensors, name, input.device).to(at::kDouble);
    const at::Tensor weight = floored_information(expert, name, floor_, input.device).mul_(expert.weight);
    if (!mean.defined()) {
      mean = at::zeros_like(tensor);
      total = at::zeros_like(tensor);
    }
    total.add_(weight);
    mean.add_((tensor - mean).mul_(at::where(total > 0, weight / total, at::zeros_like(total))));
  }
  return at::where(total > 0, mean, average_parameter(input, name).to(at::kDouble));
}

}  // namespace amalgam
