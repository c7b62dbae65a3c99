#include "solvers/methods/consensus.h"

#include <algorithm>

#include "core/error.h"
#include "solvers/methods/pieces.h"
#include "solvers/methods/tall_mask.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Consensus> registered("consensus", "the summed changes where several tasks need them",
                                           "Wang et al. 2024 (TALL masks, Consensus Merging)");

}  // namespace

MethodRequirements Consensus::requirements() const { return {.base = true}; }

void Consensus::declare_options(OptionSet& set) {
  set.integer("agreeing", agreeing_, {0, 1e6}, "how many tasks must need an element, k; 0: task arithmetic");
  set.reals("mask_scale", mask_scale_, {0, OptionSet::kInfinity},
            "how strict the tasks' masks are, λ_m: one for all tasks or one each, in their order; 0.2 to 0.6");
  set.real("scale", scale_, {}, "factor of the summed changes, λ");
}

void Consensus::configure(const std::string& where) {
  where_ = where;
  require_input(!mask_scale_.empty(), "{}.mask_scale: expected a number, or one a task", where);
}

void Consensus::check_tasks(const std::vector<ExpertInput>& experts) const {
  require_input(mask_scale_.size() == 1 || mask_scale_.size() == experts.size(),
                "{}.mask_scale: {} values for {} tasks; give one for all of them, or one each in their order", where_,
                mask_scale_.size(), experts.size());
}

void Consensus::plan(const MergeInput& input) {
  check_tasks(input.experts);
  heard_scales_.clear();
  for (size_t m = 0; m < input.experts.size(); ++m)
    if (input.experts[m].weight != 0.0) heard_scales_.push_back(mask_scale_[mask_scale_.size() == 1 ? 0 : m]);
}

at::Tensor Consensus::merge_parameter(const MergeInput& input, const std::string& name) {
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) { return merge_piece(piece, name); });
}

at::Tensor Consensus::merge_piece(const MergeInput& input, const std::string& name) const {
  HeardVectors vectors = heard_task_vectors(input, name);
  TORCH_CHECK(heard_scales_.size() == vectors.changes.size(), "merging without a plan");
  at::Tensor sum = at::zeros_like(vectors.changes.front());  // d_MT
  for (size_t m = 0; m < vectors.changes.size(); ++m) sum.add_(vectors.changes[m].mul_(vectors.weights[m]));
  at::Tensor votes = at::zeros_like(sum, at::kInt);
  for (size_t m = 0; m < vectors.changes.size(); ++m) votes.add_(tall_mask(vectors.changes[m], sum, heard_scales_[m]));
  const int64_t needed = std::min(agreeing_, static_cast<int64_t>(vectors.changes.size()));
  return read_parameter(*input.base, name, input.device).add(sum.masked_fill_(votes < needed, 0), scale_);
}

}  // namespace amalgam
