#include "solvers/methods/data_free.h"

#include "solvers/methods/interference.h"

namespace amalgam {
namespace {

const RegisterMethod<DataFree> registered("data_free", "regmean with the experts' changes in the place of data",
                                          "Cheng et al. 2025 (WUDI's objective); Jin et al. 2023");

}  // namespace

std::vector<double> weights_by_norm(const std::vector<at::Tensor>& changes, const std::vector<double>& weights) {
  std::vector<double> normalised;
  for (size_t m = 0; m < changes.size(); ++m) {
    const double square = changes[m].square().sum().item<double>();
    normalised.push_back(square > 0 ? weights[m] / square : 0.0);
  }
  return normalised;
}

void DataFree::declare_options(OptionSet& set) {
  MatrixMethod::declare_options(set);
  set.choice("normalise", normalise_, {"none", "norm"}, "norm: each task's system is divided by ‖d_m‖²");
  set.real("ridge", ridge_, {0, 1}, "added to the summed system, relative to its mean diagonal");
}

at::Tensor DataFree::merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                                   LayerReport& report, const Checkpoint&) const {
  const Interference objective(changes, normalise_ == "norm" ? weights_by_norm(changes, weights) : weights);
  const at::Tensor merged = objective.minimiser(ridge_);
  const double size = objective.gradient(at::zeros_like(merged)).norm().item<double>();
  const double left = objective.gradient(merged).norm().item<double>();
  report.solver = "eigendecomposition";
  report.residual = size > 0 ? left / size : 0.0;  // of the system without ridge
  report.why = "solved directly";
  return merged;
}

}  // namespace amalgam
