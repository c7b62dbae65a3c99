#include "solvers/methods/pcb.h"

#include <algorithm>

#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"
#include "solvers/methods/streamed_selection.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Pcb> registered("pcb", "changes that compete by size and agreement, the best averaged",
                                     "Du et al. 2024 (PCB-Merging)");

/// |d̃|, of the change's shape and dtype.
at::Tensor clamped_size(const at::Tensor& change, double least, double largest) {
  return change.abs().clamp_(least, largest);
}

/// From a place in ascending order to a rank in descending order.
int64_t rank_of(int64_t place, int64_t n) { return n - std::clamp(place, int64_t{0}, std::max(n - 1, int64_t{0})); }

}  // namespace

MethodRequirements Pcb::requirements() const { return {.base = true}; }

void Pcb::declare_options(OptionSet& set) {
  set.real("density", density_, {0, 1}, "share of each expert's elements that is kept, the best scores, r");
  set.real("clamp", clamp_, {0, 0.5}, "share of the sizes that is clamped at either end, c");
  set.real("scale", scale_, {}, "factor of the merged change, λ");
}

std::vector<at::Tensor> Pcb::scores(const std::vector<at::Tensor>& changes, const std::vector<double>& weights) const {
  TORCH_CHECK(changes.size() == extents_.size(), "merging without a plan");
  std::vector<at::Tensor> sizes, signed_sizes;  // u_m, n_m
  for (size_t m = 0; m < changes.size(); ++m) {
    const auto [least, largest, threshold, best] = extents_[m];
    const double range = largest > least ? largest - least : 1.0;
    sizes.push_back(clamped_size(changes[m], least, largest).sub_(least).div_(range));
    signed_sizes.push_back(sizes.back() * changes[m].sign());
  }
  const auto count = static_cast<double>(changes.size());  // M
  std::vector<at::Tensor> result;
  for (size_t m = 0; m < changes.size(); ++m) {
    at::Tensor agreement = at::zeros_like(changes[m]);
    for (size_t j = 0; j < changes.size(); ++j) agreement.add_((signed_sizes[m] * signed_sizes[j]).tanh_(), weights[j]);
    result.push_back(sizes[m].square().sub_(1.0).mul_(count).exp_().mul_(agreement).to(at::kFloat));
  }
  return result;
}

void Pcb::plan(const MergeInput& input) {
  const std::vector<std::string> names = merged_parameters(*this, input);
  const auto n = count_elements(input, names);
  const auto part = [&](double share) { return static_cast<int64_t>(share * static_cast<double>(n)); };
  extents_.assign(heard_experts(input).size(), {});
  if (n == 0) return;
  const auto select = [&](const std::vector<int64_t>& ranks, const auto& values_of) {
    return kth_largest(extents_.size(), ranks, [&](const TakeValues& take) {
      for (const std::string& name : names)
        for_each_piece(input, name, [&](const MergeInput& piece, int64_t) {
          const std::vector<at::Tensor> values = values_of(heard_task_vectors(piece, name));
          for (size_t m = 0; m < values.size(); ++m) take(m, values[m]);
        });
    });
  };
  const auto low = part(clamp_), high = std::max(part(1.0 - clamp_) - 1, low);
  const auto sizes = select({rank_of(low, n), rank_of(high, n)}, [](HeardVectors vectors) {
    for (at::Tensor& change : vectors.changes) change.abs_();
    return vectors.changes;
  });
  for (size_t m = 0; m < extents_.size(); ++m) {
    extents_[m].least = sizes[m][0].value;
    extents_[m].largest = sizes[m][1].value;
  }
  const auto best = select({n - part(1.0 - density_), 1},
                           [&](const HeardVectors& vectors) { return scores(vectors.changes, vectors.weights); });
  for (size_t m = 0; m < extents_.size(); ++m) {
    extents_[m].threshold = best[m][0].value;
    extents_[m].best_score = best[m][1].value;
  }
}

at::Tensor Pcb::merge_parameter(const MergeInput& input, const std::string& name) {
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) { return merge_piece(piece, name); });
}

at::Tensor Pcb::merge_piece(const MergeInput& input, const std::string& name) const {
  const HeardVectors vectors = heard_task_vectors(input, name);
  const std::vector<at::Tensor> of_experts = scores(vectors.changes, vectors.weights);
  at::Tensor sum = at::zeros_like(vectors.changes.front()), total = at::zeros_like(sum);
  for (size_t m = 0; m < vectors.changes.size(); ++m) {
    const auto [least, largest, threshold, best] = extents_[m];
    const at::Tensor& score = of_experts[m];
    at::Tensor share = best > threshold ? (score - threshold).clamp_min_(0).div_(best - threshold)
                                        : (score >= threshold).to(at::kFloat);
    share.mul_(vectors.weights[m]);
    total.add_(share);
    sum.add_(clamped_size(vectors.changes[m], least, largest).mul_(vectors.changes[m].sign()).mul_(share));
  }
  return read_parameter(*input.base, name, input.device).add(sum.div_(total.clamp_min_(1e-12)), scale_);
}

}  // namespace amalgam
