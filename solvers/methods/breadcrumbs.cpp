#include "solvers/methods/breadcrumbs.h"

#include <algorithm>

#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Breadcrumbs> registered("breadcrumbs", "the sum of changes that are neither outliers nor small",
                                             "Davari & Belilovsky 2024 (Model Breadcrumbs)");

}  // namespace

MethodRequirements Breadcrumbs::requirements() const { return {.base = true, .negative_weights = true}; }

void Breadcrumbs::declare_options(OptionSet& set) {
  set.real("density", density_, {0, 1}, "share of each expert's changes that is kept, β");
  set.real("outliers", outliers_, {0, 1}, "share of the largest changes that is left out before, γ");
  set.real("scale", scale_, {}, "factor of the summed changes, λ");
}

at::Tensor Breadcrumbs::merge_parameter(const MergeInput& input, const std::string& name) {
  at::Tensor merged = read_parameter(*input.base, name, input.device).clone();
  const HeardVectors vectors = heard_task_vectors(input, name);
  const auto n = merged.numel();
  const auto share = [&](double part) { return static_cast<int64_t>(part * static_cast<double>(n)); };
  const int64_t first = share(outliers_), kept = std::min(std::max(int64_t{1}, share(density_)), n - first);
  for (size_t m = 0; m < vectors.changes.size(); ++m) {
    const at::Tensor flat = vectors.changes[m].reshape({-1});
    const at::Tensor order = flat.abs().argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
    const at::Tensor places = order.slice(0, first, first + kept);
    const at::Tensor crumbs = at::zeros_like(flat).index_copy_(0, places, flat.index_select(0, places));
    merged.add_(crumbs.view(merged.sizes()), scale_ * vectors.weights[m]);
  }
  return merged;
}

}  // namespace amalgam
