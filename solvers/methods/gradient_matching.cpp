#include "solvers/methods/gradient_matching.h"

#include "solvers/methods/average.h"
#include "solvers/methods/information.h"

namespace amalgam {
namespace {

const RegisterMethod<GradientMatching> registered(
    "gradient_matching", "the changes weighted by diagonal Fisher information, against the base's own",
    "Daheim et al. 2024 (uncertainty-based gradient matching)");

}  // namespace

MethodRequirements GradientMatching::requirements() const {
  return {.base = true, .statistics = {StatisticKind::kSquaredGradient}, .base_statistics = true};
}

void GradientMatching::declare_options(OptionSet& set) {
  set.real("prior", prior_, {0, 1e12}, "information about the base beside its statistics, δ, absolute");
  set.real("floor", floor_, {0, 1}, "least information of an element, relative to the parameter's mean");
  set.choice("counts", counts_, {"examples", "uniform"},
             "examples: a task counts by the examples of its statistics; uniform: all count alike");
}

double GradientMatching::examples(const Statistics& statistics) const {
  return counts_ == "uniform" ? 1.0 : static_cast<double>(statistics.header().examples());
}

std::string GradientMatching::remark(const MergeInput& input, const std::string& name) {
  if (!anyone_knows(input, name)) return kAveragedUnknown;
  if (input.base_statistics != nullptr && !input.base_statistics->has_squared_gradient(name))
    return "the statistics of the base have no squared gradient of it: only the prior stands for the base";
  return "";
}

/// H_0.
at::Tensor GradientMatching::prior_curvature(const MergeInput& input, const std::string& name) const {
  const TensorInfo& info = input.base->infos().at(name);
  const at::Tensor prior = at::full(info.shape, prior_, at::TensorOptions(input.device).dtype(at::kDouble));
  if (input.base_statistics == nullptr || !input.base_statistics->has_squared_gradient(name)) return prior;
  return prior +
         information(*input.base_statistics, "the base", info, name, input.device) * examples(*input.base_statistics);
}

at::Tensor GradientMatching::merge_parameter(const MergeInput& input, const std::string& name) {
  const at::Tensor average = average_parameter(input, name).to(at::kDouble);
  if (!anyone_knows(input, name)) return average;
  const at::Tensor base = read_parameter(*input.base, name, input.device).to(at::kDouble);
  const at::Tensor of_base = prior_curvature(input, name);
  at::Tensor total = of_base.clone(), change = at::zeros_like(base);  // H̄, Σ α (H_0 + H_m) d_m
  for (const ExpertInput& expert : input.experts) {
    const at::Tensor curvature =
        floored_information(expert, name, floor_, input.device) * (expert.weight * examples(*expert.statistics));
    const at::Tensor moved = read_parameter(*expert.tensors, name, input.device).to(at::kDouble) - base;
    total.add_(curvature);
    change.add_((of_base * expert.weight + curvature).mul_(moved));
  }
  return at::where(total > 0, base + change / total, average);
}

}  // namespace amalgam
