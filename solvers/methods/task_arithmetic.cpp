#include "solvers/methods/task_arithmetic.h"

#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"

namespace amalgam {
namespace {

const RegisterMethod<TaskArithmetic> registered("task_arithmetic",
                                                "the base plus the scaled sum of the experts' changes",
                                                "Ilharco et al. 2023");

}  // namespace

MethodRequirements TaskArithmetic::requirements() const { return {.base = true, .negative_weights = true}; }

void TaskArithmetic::declare_options(OptionSet& set) {
  set.real("scale", scale_, {}, "factor of the summed changes, λ");
}

at::Tensor TaskArithmetic::merge_parameter(const MergeInput& input, const std::string& name) {
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) {
    const at::Tensor base = read_parameter(*piece.base, name, piece.device);
    at::Tensor merged = base.clone();
    for (const ExpertInput& expert : heard_experts(piece))
      merged.add_(read_parameter(*expert.tensors, name, piece.device) - base, scale_ * expert.weight);
    return merged;
  });
}

}  // namespace amalgam
