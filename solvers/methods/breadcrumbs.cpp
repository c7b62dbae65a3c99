#include "solvers/methods/breadcrumbs.h"

#include <algorithm>

#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"
#include "solvers/methods/streamed_selection.h"
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
  const int64_t n = count_elements(input, {name});
  const auto share = [&](double part) { return static_cast<int64_t>(part * static_cast<double>(n)); };
  const int64_t outliers = share(outliers_), kept = std::min(std::max(int64_t{1}, share(density_)), n - outliers);
  const size_t heard = heard_experts(input).size();
  const auto lines = kth_largest(heard, {outliers, outliers + kept}, [&](const TakeValues& take) {
    for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
      HeardVectors vectors = heard_task_vectors(piece, name);
      for (size_t m = 0; m < heard; ++m) take(m, vectors.changes[m].abs_());
    });
  });
  std::vector<LargestMask> left_out, down_to_noise;
  for (const std::vector<RankedValue>& of_expert : lines) {
    left_out.emplace_back(of_expert[0]);
    down_to_noise.emplace_back(of_expert[1]);
  }
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) {
    at::Tensor merged = read_parameter(*piece.base, name, piece.device).clone();
    const HeardVectors vectors = heard_task_vectors(piece, name);
    for (size_t m = 0; m < heard; ++m) {
      const at::Tensor sizes = vectors.changes[m].abs();
      const at::Tensor crumbs = down_to_noise[m](sizes).logical_and_(left_out[m](sizes).logical_not_());
      merged.add_(vectors.changes[m].masked_fill(crumbs.logical_not_(), 0), scale_ * vectors.weights[m]);
    }
    return merged;
  });
}

}  // namespace amalgam
