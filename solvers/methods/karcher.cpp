#include "solvers/methods/karcher.h"

#include <cmath>

#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const RegisterMethod<Karcher> registered("karcher", "the experts' mean on the sphere, tensor by tensor",
                                         "Grove & Karcher 1973; mergekit");

constexpr double kNoDirection = 1e-12;  // of a sum of unit vectors: what rounding leaves where they cancel

/// T at u: the weighted sum of the tangents from u to each u_i, as long as the arcs.
at::Tensor tangent(const at::Tensor& u, const std::vector<at::Tensor>& units, const std::vector<double>& weights) {
  at::Tensor sum = at::zeros_like(u);
  for (size_t i = 0; i < units.size(); ++i) {
    const double cosine = u.dot(units[i]).item<double>();
    const at::Tensor across = units[i] - u * cosine;
    const double sine = across.norm().item<double>();
    if (sine > kNoDirection) sum.add_(across, weights[i] * std::atan2(sine, cosine) / sine);
  }
  return sum;
}

}  // namespace

KarcherMean karcher_mean(const std::vector<at::Tensor>& units, const std::vector<double>& weights, int64_t iterations,
                         double tolerance) {
  TORCH_CHECK(!units.empty() && units.size() == weights.size(), "a Karcher mean needs one weight a direction");
  KarcherMean mean;
  at::Tensor sum = at::zeros_like(units.front());
  for (size_t i = 0; i < units.size(); ++i) sum.add_(units[i], weights[i]);
  const double norm = sum.norm().item<double>();
  mean.direction = norm > kNoDirection ? sum / norm : units.front();
  while (true) {
    const at::Tensor step = tangent(mean.direction, units, weights);
    mean.residual = step.norm().item<double>();
    if (mean.residual < tolerance || mean.iterations == iterations) return mean;
    mean.direction = mean.direction * std::cos(mean.residual) + step * (std::sin(mean.residual) / mean.residual);
    mean.direction.div_(mean.direction.norm());
    ++mean.iterations;
  }
}

void Karcher::declare_options(OptionSet& set) {
  set.integer("iterations", iterations_, {1, 10000}, "steps at most");
  set.real("tolerance", tolerance_, {0, 1}, "stop where the mean would move by less, in radians");
}

at::Tensor Karcher::merge_parameter(const MergeInput& input, const std::string& name, LayerReport& report) const {
  double total = 0.0, norm_sum = 0.0, heard = 0.0;  // Σ α, Σ α ‖θ‖, Σ α of what is not zero
  std::vector<at::Tensor> units;
  std::vector<double> weights;
  for (const ExpertInput& expert : heard_experts(input)) {
    const at::Tensor flat = read_parameter(*expert.tensors, name, input.device).to(at::kDouble).flatten();
    const double norm = flat.norm().item<double>();
    total += expert.weight;
    if (norm == 0) continue;
    norm_sum += expert.weight * norm;
    heard += expert.weight;
    units.push_back(flat / norm);
    weights.push_back(expert.weight);
  }
  const std::vector<int64_t>& shape = input.experts.front().tensors->infos().at(name).shape;
  if (units.empty()) return at::zeros(shape, at::TensorOptions(input.device).dtype(at::kDouble));
  for (double& weight : weights) weight /= heard;
  const KarcherMean mean = karcher_mean(units, weights, iterations_, tolerance_);
  report.iterations = mean.iterations;
  report.residual = mean.residual;
  report.converged = mean.residual < tolerance_;
  report.why = report.converged ? "tolerance reached" : "iteration limit";
  return (mean.direction * (norm_sum / total)).reshape(shape);
}

GroupResult Karcher::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  TORCH_CHECK(group.layers.empty(), name(), " merges parameters, not layers");
  GroupResult result;
  for (const std::string& parameter : group.parameters) {
    checkpoint();
    LayerReport& report = result.reports.emplace_back();
    report.layer = parameter;
    report.solver = "Karcher mean";
    report.why = "every expert is zero here";
    result.merged[parameter] = merge_parameter(input, parameter, report);
  }
  return result;
}

}  // namespace amalgam
