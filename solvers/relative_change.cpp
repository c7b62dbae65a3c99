#include "solvers/relative_change.h"

namespace amalgam {

std::map<std::string, std::vector<double>> relative_changes(const MergeInput& input) {
  TORCH_CHECK(input.base != nullptr, "relative_changes: there is no base");
  std::map<std::string, std::vector<double>> changes;
  for (const std::string& name : input.parameters) {
    if (!at::isFloatingType(input.base->infos().at(name).dtype)) continue;
    const at::Tensor base = input.base->get(name).to(input.device, at::kDouble);
    const double norm = base.norm().item<double>();
    for (const ExpertInput& expert : input.experts) {
      const double change = (expert.tensors->get(name).to(input.device, at::kDouble) - base).norm().item<double>();
      changes[name].push_back(norm > 0 ? change / norm : change);
    }
  }
  return changes;
}

}  // namespace amalgam
