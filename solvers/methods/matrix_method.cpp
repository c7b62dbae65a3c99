#include "solvers/methods/matrix_method.h"

#include "core/error.h"
#include "solvers/methods/average.h"
#include "solvers/methods/experts.h"

namespace amalgam {

MethodRequirements MatrixMethod::requirements() const { return {.base = true}; }

void MatrixMethod::declare_options(OptionSet& set) {
  set.real("scale", scale_, {}, "factor of the merged change, α");
  set.choice("convolutions", convolutions_, {"average", "matrix"},
             "average: kernels of more than two axes are averaged; matrix: they are merged as [out, the rest]");
}

bool MatrixMethod::is_matrix(const at::Tensor& parameter) const {
  return parameter.numel() > 0 && (parameter.dim() == 2 || (parameter.dim() > 2 && convolutions_ == "matrix"));
}

at::Tensor MatrixMethod::merge_parameter(const MergeInput& input, const std::string& name, LayerReport& report,
                                         const Checkpoint& checkpoint) const {
  const at::Tensor base = read_parameter(*input.base, name, input.device).to(at::kDouble);
  if (!is_matrix(base)) return base.lerp(average_parameter(input, name).to(at::kDouble), scale_);
  std::vector<at::Tensor> changes;
  std::vector<double> weights;
  for (const ExpertInput& expert : heard_experts(input)) {
    const at::Tensor own = read_parameter(*expert.tensors, name, input.device).to(at::kDouble);
    require_input(own.isfinite().all().item<bool>(),
                  "'{}' of expert '{}' holds a value that is not finite; mend or retrain that expert", name,
                  expert.task);
    changes.push_back((own - base).flatten(1));
    weights.push_back(expert.weight);
  }
  return base + merge_changes(changes, weights, report, checkpoint).mul(scale_).view_as(base);
}

GroupResult MatrixMethod::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  TORCH_CHECK(group.layers.empty(), name(), " merges parameters, not layers");
  GroupResult result;
  for (const std::string& parameter : group.parameters) {
    checkpoint();
    LayerReport report;
    report.layer = parameter;
    result.merged[parameter] = merge_parameter(input, parameter, report, checkpoint);
    if (!report.solver.empty()) result.reports.push_back(std::move(report));
  }
  return result;
}

std::vector<at::Tensor> weighted(const std::vector<at::Tensor>& changes, const std::vector<double>& weights) {
  std::vector<at::Tensor> products;
  for (size_t m = 0; m < changes.size(); ++m) products.push_back(changes[m] * weights[m]);
  return products;
}

at::Tensor weighted_sum(const std::vector<at::Tensor>& changes, const std::vector<double>& weights) {
  at::Tensor sum = at::zeros_like(changes.front());
  for (size_t m = 0; m < changes.size(); ++m) sum.add_(changes[m], weights[m]);
  return sum;
}

}  // namespace amalgam
