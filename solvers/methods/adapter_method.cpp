#include "solvers/methods/adapter_method.h"

#include "solvers/methods/average.h"

namespace amalgam {

at::Tensor AdapterMethod::merge_parameter(const MergeInput& input, const std::string& name) {
  if (!input.experts.front().adapter->contains(down_name(name))) return average_parameter(input, name);
  const at::Tensor base = read_parameter(*input.base, name, input.device);
  std::vector<LowRank> changes;
  std::vector<double> weights;
  for (const ExpertInput& expert : input.experts) {
    changes.push_back(read_low_rank(*expert.adapter, name, base.options()));
    weights.push_back(expert.weight);
  }
  const LowRank merged = merge_factors(input, name, changes, weights);
  return at::addmm(base, merged.up.to(base.scalar_type()), merged.down.to(base.scalar_type()));
}

}  // namespace amalgam
