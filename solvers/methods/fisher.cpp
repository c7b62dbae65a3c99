#include "solvers/methods/fisher.h"

#include "core/error.h"
#include "solvers/methods/average.h"

namespace amalgam {
namespace {

const RegisterMethod<Fisher> registered("fisher", "the mean weighted by each expert's diagonal Fisher information",
                                        "Matena & Raffel 2022");

}  // namespace

MethodRequirements Fisher::requirements() const { return {.statistics = {StatisticKind::kSquaredGradient}}; }

void Fisher::declare_options(OptionSet& set) {
  set.real("floor", floor_, {0, 1}, "least information of an element, relative to the parameter's mean");
}

at::Tensor Fisher::merge_parameter(const MergeInput& input, const std::string& name) {
  at::Tensor mean, total;  // the running weighted mean and its weight, element by element: equal experts stay exact
  for (const ExpertInput& expert : input.experts) {
    const at::Tensor information = expert.statistics->squared_gradient(name).to(input.device);
    const at::Tensor tensor = read_parameter(*expert.tensors, name, input.device).to(at::kDouble);
    require_input(information.sizes() == tensor.sizes(),
                  "statistics of task '{}': {}/squared_gradient is no match for "
                  "the expert's parameter; collect the statistics of this expert again",
                  expert.task, name);
    const at::Tensor weight = at::maximum(information, information.mean() * floor_).mul_(expert.weight);
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
