#include "solvers/methods/task_vectors.h"

namespace amalgam {

std::vector<at::Tensor> task_vectors(const MergeInput& input, const std::string& name) {
  TORCH_CHECK(input.base != nullptr, "changes from the base without a base");
  const at::Tensor base = read_parameter(*input.base, name, input.device);
  std::vector<at::Tensor> changes;
  for (const ExpertInput& expert : input.experts)
    changes.push_back(read_parameter(*expert.tensors, name, input.device) - base);
  return changes;
}

}  // namespace amalgam
