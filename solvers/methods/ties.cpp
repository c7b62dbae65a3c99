#include "solvers/methods/ties.h"

#include <algorithm>

#include "solvers/methods/sign_election.h"
#include "solvers/methods/streamed_selection.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Ties> registered("ties", "the largest changes, those that agree in sign averaged",
                                      "Yadav et al. 2023 (TIES-Merging)");

/// The least of a tensor's `kept` largest magnitudes.
float threshold_of(const at::Tensor& change, int64_t kept) {
  if (change.numel() == 0) return 0.0F;
  const at::Tensor magnitudes = change.abs().flatten().to(at::kFloat);
  return std::get<0>(magnitudes.kthvalue(magnitudes.numel() - kept + 1)).item<float>();
}

}  // namespace

MethodRequirements Ties::requirements() const { return {.base = true}; }

void Ties::declare_options(OptionSet& set) {
  set.real("density", density_, {0, 1}, "share of each expert's changes that is kept, the largest, K");
  set.choice("trim", trim_, {"model", "tensor"}, "over all parameters together, or each by itself");
  set.real("scale", scale_, {}, "factor of the merged change, λ");
}

void Ties::plan(const MergeInput& input) {
  if (!whole_model()) return;
  const std::vector<std::string> names = merged_parameters(*this, input);
  const auto heard =
      std::ranges::count_if(input.experts, [](const ExpertInput& expert) { return expert.weight != 0.0; });
  const auto kept = static_cast<int64_t>(density_ * static_cast<double>(count_elements(input, names)));
  const auto found = kth_largest(static_cast<size_t>(heard), {kept}, [&](const TakeValues& take) {
    for (const std::string& name : names) {
      const HeardVectors vectors = heard_task_vectors(input, name);
      for (size_t m = 0; m < vectors.changes.size(); ++m) take(m, vectors.changes[m].abs());
    }
  });
  thresholds_.clear();
  for (const std::vector<float>& of_expert : found) thresholds_.push_back(of_expert.front());

  int64_t votes = 0;
  for (const std::string& name : names) {
    const HeardVectors vectors = heard_task_vectors(input, name);
    votes += elected_sign(trimmed(vectors.changes), vectors.weights, 0).sum(at::kDouble).to(at::kLong).item<int64_t>();
  }
  zero_sign_ = votes > 0 ? 1 : -1;
}

std::vector<at::Tensor> Ties::trimmed(const std::vector<at::Tensor>& changes) const {
  TORCH_CHECK(!whole_model() || thresholds_.size() == changes.size(), "merging without a plan");
  std::vector<at::Tensor> result;
  for (size_t m = 0; m < changes.size(); ++m) {
    const at::Tensor& change = changes[m];
    const int64_t kept = std::max(int64_t{1}, static_cast<int64_t>(density_ * static_cast<double>(change.numel())));
    const float threshold = whole_model() ? thresholds_[m] : threshold_of(change, kept);
    result.push_back(change.masked_fill(change.abs().to(at::kFloat) < threshold, 0));
  }
  return result;
}

at::Tensor Ties::merge_parameter(const MergeInput& input, const std::string& name) {
  const HeardVectors vectors = heard_task_vectors(input, name);
  const std::vector<at::Tensor> changes = trimmed(vectors.changes);
  const at::Tensor sign = elected_sign(changes, vectors.weights, zero_sign_);
  return read_parameter(*input.base, name, input.device).add(mean_of_agreeing(changes, vectors.weights, sign), scale_);
}

}  // namespace amalgam
