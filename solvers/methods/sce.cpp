#include "solvers/methods/sce.h"

#include <algorithm>

#include "solvers/methods/sign_election.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Sce> registered("sce", "elements that the experts differ in, weighted by how far each has moved",
                                     "Wan et al. 2024 (FuseChat, SCE)");

constexpr double kLeastShare = 1e-6;

/// Of each element over the experts, by a running mean, so that equal changes have exactly none.
at::Tensor variance(const std::vector<at::Tensor>& changes) {
  at::Tensor mean = changes.front().clone(), sum = at::zeros_like(mean);
  for (size_t m = 1; m < changes.size(); ++m) {
    const at::Tensor before = changes[m] - mean;
    mean.add_(before, 1.0 / static_cast<double>(m + 1));
    sum.add_(before.mul(changes[m] - mean));
  }
  return sum.div_(static_cast<double>(changes.size()));
}

/// Sets to zero where the experts differ least.
void select(std::vector<at::Tensor>& changes, double density) {
  const at::Tensor spread = variance(changes).reshape({-1});
  const auto differing = spread.count_nonzero().item<int64_t>();
  if (differing == 0) return;
  const auto kept = std::max(int64_t{1}, static_cast<int64_t>(density * static_cast<double>(differing)));
  const at::Tensor order = spread.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const at::Tensor dropped = at::ones_like(spread, at::kBool).index_fill_(0, order.slice(0, 0, kept), false);
  for (at::Tensor& change : changes) change.masked_fill_(dropped.view(change.sizes()), 0);
}

/// η.
std::vector<double> shares(const HeardVectors& vectors) {
  std::vector<double> result;
  double total = 0.0;
  for (size_t m = 0; m < vectors.changes.size(); ++m) {
    const auto norm = at::linalg_vector_norm(vectors.changes[m], 2, {}, false, at::kDouble).item<double>();
    result.push_back(vectors.weights[m] * norm * norm);
    total += result.back();
  }
  for (double& share : result) share = total > 0 ? share / total : 1.0;
  return result;
}

}  // namespace

MethodRequirements Sce::requirements() const { return {.base = true}; }

void Sce::declare_options(OptionSet& set) {
  set.real("density", density_, {0, 1}, "share of the elements that is kept, those the experts differ in most, τ");
}

at::Tensor Sce::merge_parameter(const MergeInput& input, const std::string& name) {
  HeardVectors vectors = heard_task_vectors(input, name);
  if (density_ < 1.0) select(vectors.changes, density_);
  const at::Tensor sign = elected_sign(vectors.changes, vectors.weights, 1);
  return read_parameter(*input.base, name, input.device)
      .add(mean_of_agreeing(vectors.changes, shares(vectors), sign, kLeastShare));
}

}  // namespace amalgam
