#include "solvers/methods/sce.h"

#include <algorithm>
#include <numeric>

#include "solvers/methods/pieces.h"
#include "solvers/methods/sign_election.h"
#include "solvers/methods/streamed_selection.h"
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

/// Where the experts differ least, flat; not defined where nothing is dropped.
at::Tensor dropped_elements(const MergeInput& input, const std::string& name, double density) {
  if (density >= 1.0) return {};
  at::Tensor spread = at::empty({count_elements(input, {name})}, at::TensorOptions(input.device).dtype(at::kFloat));
  for_each_piece(input, name, [&](const MergeInput& piece, int64_t first) {
    const at::Tensor of_piece = variance(heard_task_vectors(piece, name).changes).flatten();
    spread.slice(0, first, first + of_piece.numel()).copy_(of_piece);
  });
  const auto differing = spread.count_nonzero().item<int64_t>();
  if (differing == 0) return {};
  const auto kept = std::max(int64_t{1}, static_cast<int64_t>(density * static_cast<double>(differing)));
  const auto lines = kth_largest(1, {kept}, [&](const TakeValues& take) { take(0, spread); });
  return LargestMask(lines.front().front())(spread).logical_not_();
}

/// The changes with a say, zero at what is dropped.
HeardVectors selected(const MergeInput& piece, const std::string& name, const at::Tensor& dropped, int64_t first) {
  HeardVectors vectors = heard_task_vectors(piece, name);
  if (dropped.defined())
    for (at::Tensor& change : vectors.changes)
      change.masked_fill_(dropped.slice(0, first, first + change.numel()).view(change.sizes()), 0);
  return vectors;
}

}  // namespace

MethodRequirements Sce::requirements() const { return {.base = true}; }

void Sce::declare_options(OptionSet& set) {
  set.real("density", density_, {0, 1}, "share of the elements that is kept, those the experts differ in most, τ");
}

at::Tensor Sce::merge_parameter(const MergeInput& input, const std::string& name) {
  const at::Tensor dropped = dropped_elements(input, name, density_);
  std::vector<double> shares;  // α ‖d̃‖², then η
  for_each_piece(input, name, [&](const MergeInput& piece, int64_t first) {
    const HeardVectors vectors = selected(piece, name, dropped, first);
    shares.resize(vectors.changes.size());
    for (size_t m = 0; m < shares.size(); ++m) {
      const at::Tensor change = vectors.changes[m].flatten().to(at::kDouble);
      shares[m] += vectors.weights[m] * change.dot(change).item<double>();
    }
  });
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share = total > 0 ? share / total : 1.0;
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t first) {
    const HeardVectors vectors = selected(piece, name, dropped, first);
    const at::Tensor sign = elected_sign(vectors.changes, vectors.weights, 1);
    return read_parameter(*piece.base, name, piece.device)
        .add(mean_of_agreeing(vectors.changes, shares, sign, kLeastShare));
  });
}

}  // namespace amalgam
