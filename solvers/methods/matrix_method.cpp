#include "solvers/methods/matrix_method.h"

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/finite.h"
#include "solvers/methods/average.h"
#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

/// The distance of neighbouring values of a dtype above 1.
double spacing(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return 0x1p-52;
    case at::kFloat:
      return 0x1p-23;
    case at::kHalf:
      return 0x1p-10;
    case at::kBFloat16:
      return 0x1p-7;
    default:
      return 0.0;  // not known
  }
}

/// What the norm of the errors of a matrix [rows, columns] that is rounded to a dtype comes to, from above. They are
/// spread evenly over the spacing, so that their deviation is at most spacing/√12 times the element; the norm of a
/// matrix of independent elements is about the longest row's deviation and the longest column's together (Bandeira &
/// van Handel 2016).
double rounding_of(const at::Tensor& matrix, at::ScalarType dtype) {
  const at::Tensor squares = matrix.square();
  const at::Tensor lengths = squares.sum(1).max().sqrt() + squares.sum(0).max().sqrt();
  return spacing(dtype) / std::sqrt(12.0) * lengths.item<double>();
}

}  // namespace

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
    const at::Tensor change = read_parameter(*expert.tensors, name, input.device).to(at::kDouble) - base;
    require_input(all_finite(change),
                  "'{}' of expert '{}' or of the base holds a value that is not finite; mend or retrain that model",
                  name, expert.task);
    changes.push_back(change.flatten(1));
    weights.push_back(expert.weight);
  }
  const double rounding = rounding_of(base.flatten(1), input.base->infos().at(name).dtype);
  return base + merge_changes(changes, weights, rounding, report, checkpoint).mul(scale_).view_as(base);
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

double length_of(const std::vector<double>& weights) {
  return std::sqrt(std::inner_product(weights.begin(), weights.end(), weights.begin(), 0.0));
}

}  // namespace amalgam
