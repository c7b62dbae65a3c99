#include "solvers/methods/ties.h"

#include <algorithm>

#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"
#include "solvers/methods/sign_election.h"
#include "solvers/methods/streamed_selection.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Ties> registered("ties", "the largest changes, those that agree in sign averaged",
                                      "Yadav et al. 2023 (TIES-Merging)");

/// The least of the `kept` largest |d_m| over these parameters together, one a task that has a say.
std::vector<float> thresholds_of(const MergeInput& input, const std::vector<std::string>& names, int64_t kept) {
  const size_t heard = heard_experts(input).size();
  if (kept == count_elements(input, names)) return std::vector<float>(heard, 0.0F);
  const auto found = kth_largest(heard, {kept}, [&](const TakeValues& take) {
    for (const std::string& name : names)
      for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
        HeardVectors vectors = heard_task_vectors(piece, name);
        for (size_t m = 0; m < vectors.changes.size(); ++m) take(m, vectors.changes[m].abs_());
      });
  });
  std::vector<float> thresholds;
  for (const std::vector<RankedValue>& of_expert : found) thresholds.push_back(of_expert.front().value);
  return thresholds;
}

/// Sets to zero what is below the expert's threshold.
void trim(std::vector<at::Tensor>& changes, const std::vector<float>& thresholds) {
  TORCH_CHECK(thresholds.size() == changes.size(), "merging without a plan");
  for (size_t m = 0; m < changes.size(); ++m)
    changes[m].masked_fill_(changes[m].abs().to(at::kFloat) < thresholds[m], 0);
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
  thresholds_ = thresholds_of(input, names, share_of(count_elements(input, names)));
  double votes = 0;  // whole numbers: exact
  for (const std::string& name : names)
    for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
      HeardVectors vectors = heard_task_vectors(piece, name);
      trim(vectors.changes, thresholds_);
      votes += elected_sign(vectors.changes, vectors.weights, 0).sum(at::kDouble).item<double>();
    });
  zero_sign_ = votes > 0 ? 1 : -1;
}

int64_t Ties::share_of(int64_t count) const { return static_cast<int64_t>(density_ * static_cast<double>(count)); }

at::Tensor Ties::merge_parameter(const MergeInput& input, const std::string& name) {
  const int64_t count = count_elements(input, {name}), kept = std::min(count, std::max(int64_t{1}, share_of(count)));
  const std::vector<float> thresholds = whole_model() ? thresholds_ : thresholds_of(input, {name}, kept);
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) {
    HeardVectors vectors = heard_task_vectors(piece, name);
    trim(vectors.changes, thresholds);
    const at::Tensor sign = elected_sign(vectors.changes, vectors.weights, zero_sign_);
    return read_parameter(*piece.base, name, piece.device)
        .add(mean_of_agreeing(vectors.changes, vectors.weights, sign), scale_);
  });
}

}  // namespace amalgam
