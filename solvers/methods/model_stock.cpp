#include "solvers/methods/model_stock.h"

#include <algorithm>

#include "solvers/methods/average.h"
#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const RegisterMethod<ModelStock> registered("model_stock",
                                            "the mean drawn towards the base by the angle between the experts' changes",
                                            "Jang, Yun & Han 2024 (Model Stock)");

/// Mean of cos(d_i, d_j) over all pairs, from ‖Σ u‖² = M + Σ_{i≠j} ⟨u_i, u_j⟩ of unit vectors: one change in memory.
double mean_cosine(const std::vector<ExpertInput>& experts, const std::string& name, const at::Tensor& base) {
  at::Tensor sum = at::zeros(base.sizes(), base.options().dtype(at::kDouble));
  double own = 0.0;  // Σ ⟨u_i, u_i⟩: those that are not zero
  for (const ExpertInput& expert : experts) {
    const at::Tensor change = (read_parameter(*expert.tensors, name, base.device()) - base).to(at::kDouble);
    const double norm = change.norm().item<double>();
    if (norm == 0) continue;
    sum.add_(change, 1 / norm);
    own += 1.0;
  }
  const auto count = static_cast<double>(experts.size());
  return (sum.square().sum().item<double>() - own) / (count * (count - 1));
}

}  // namespace

double stock_ratio(double cosine, size_t experts) {
  if (cosine <= 0) return 0.0;  // and no denominator of zero
  const auto count = static_cast<double>(experts);
  return std::min(1.0, count * cosine / (1 + (count - 1) * cosine));
}

MethodRequirements ModelStock::requirements() const { return {.base = true, .least_experts = 2}; }

at::Tensor ModelStock::merge_parameter(const MergeInput& input, const std::string& name) {
  const at::Tensor base = read_parameter(*input.base, name, input.device);
  const auto experts = heard_experts(input);
  return base.lerp(average_parameter(input, name), stock_ratio(mean_cosine(experts, name, base), experts.size()));
}

}  // namespace amalgam
