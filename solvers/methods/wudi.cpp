#include "solvers/methods/wudi.h"

#include "solvers/methods/data_free.h"
#include "solvers/methods/interference.h"
#include "solvers/search/adam.h"

namespace amalgam {
namespace {

const RegisterMethod<Wudi> registered("wudi", "the change that least disturbs what each expert changed, by Adam",
                                      "Cheng et al. 2025 (WUDI-Merging)");

constexpr double kStationary = 1e-3;  // of the gradient at D = 0: what is left there counts as none

}  // namespace

at::Tensor adam(at::Tensor start, const std::function<at::Tensor(const at::Tensor&)>& gradient, int64_t steps,
                double rate, const Checkpoint& checkpoint) {
  at::Tensor x = start.clone();
  AdamState state;
  for (int64_t step = 0; step < steps; ++step) {
    checkpoint();
    adam_step(x, gradient(x), rate, state);
  }
  return x;
}

void Wudi::declare_options(OptionSet& set) {
  MatrixMethod::declare_options(set);
  set.integer("iterations", iterations_, {0, 1000000}, "steps of Adam; 0 keeps the sum of the changes");
  set.real("rate", rate_, {0, 1}, "of Adam: about how far an element moves in a step");
}

at::Tensor Wudi::merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                               double /*rounding*/, LayerReport& report, const Checkpoint& checkpoint) const {
  const Interference objective(changes, weights_by_norm(changes, weights));
  const at::Tensor merged = adam(
      weighted_sum(changes, weights), [&](const at::Tensor& change) { return objective.gradient(change); }, iterations_,
      rate_, checkpoint);
  const double size = objective.gradient(at::zeros_like(merged)).norm().item<double>();
  report.solver = "Adam";
  report.iterations = iterations_;
  report.residual = size > 0 ? objective.gradient(merged).norm().item<double>() / size : 0.0;
  report.converged = report.residual <= kStationary;
  report.why = "a fixed number of steps, as published";
  return merged;
}

}  // namespace amalgam
