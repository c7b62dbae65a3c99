#include "solvers/methods/tall.h"

#include "core/error.h"
#include "core/packed_bits.h"
#include "core/task_parts.h"
#include "solvers/methods/tall_mask.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Tall> registered("tall", "the summed changes, of which each task takes what its bit mask says",
                                      "Wang et al. 2024 (TALL masks)");

/// d_m = α_m (θ_m − θ0) of every expert, float64.
std::vector<at::Tensor> weighted_changes(const MergeInput& input, const at::Tensor& base, const std::string& name) {
  std::vector<at::Tensor> changes;
  for (const ExpertInput& expert : input.experts) {
    changes.push_back((read_parameter(*expert.tensors, name, input.device).to(at::kDouble) - base).mul_(expert.weight));
    require_input(changes.back().isfinite().all().item<bool>(),
                  "'{}' of expert '{}' holds a value that is not finite; mend or retrain that expert", name,
                  expert.task);
  }
  return changes;
}

at::Tensor sum_of(const std::vector<at::Tensor>& changes) {
  at::Tensor sum = changes.front().clone();
  for (size_t m = 1; m < changes.size(); ++m) sum.add_(changes[m]);
  return sum;
}

}  // namespace

MethodRequirements Tall::requirements() const { return {.base = true}; }

void Tall::declare_options(OptionSet& set) {
  set.reals("mask_scale", mask_scale_, {0, OptionSet::kInfinity},
            "how strict the tasks' masks are, λ_m: one for all tasks or one each, in their order; 0.2 to 0.6");
  set.real("scale", scale_, {}, "factor of the summed changes");
}

void Tall::configure(const std::string& where) {
  where_ = where;
  require_input(!mask_scale_.empty(), "{}.mask_scale: expected a number, or one a task", where);
}

void Tall::check_tasks(const std::vector<ExpertInput>& experts) const {
  require_input(mask_scale_.size() == 1 || mask_scale_.size() == experts.size(),
                "{}.mask_scale: {} values for {} tasks; give one for all of them, or one each in their order", where_,
                mask_scale_.size(), experts.size());
}

void Tall::plan(const MergeInput& input) { check_tasks(input.experts); }

at::Tensor Tall::merge_parameter(const MergeInput& input, const std::string& name) {
  const at::Tensor base = read_parameter(*input.base, name, input.device).to(at::kDouble);
  return base + sum_of(weighted_changes(input, base, name)).mul_(scale_);
}

NamedTensors Tall::task_parts(const MergeInput& input, const std::string& parameter, const at::Tensor& /*merged*/) {
  const at::Tensor base = read_parameter(*input.base, parameter, input.device).to(at::kDouble);
  const std::vector<at::Tensor> changes = weighted_changes(input, base, parameter);
  const at::Tensor sum = sum_of(changes);
  NamedTensors parts = {{base_part_name(parameter), input.base->get(parameter)}};
  for (size_t m = 0; m < changes.size(); ++m)
    if (input.experts[m].weight != 0)
      parts[mask_name(input.experts[m].task, parameter)] =
          pack_bits(tall_mask(changes[m], sum, mask_scale_[mask_scale_.size() == 1 ? 0 : m]));
  return parts;
}

}  // namespace amalgam
