#include "solvers/methods/lora_average.h"

#include "core/error.h"
#include "solvers/methods/average.h"

namespace amalgam {
namespace {

const RegisterMethod<LoraAverage> registered("lora_average",
                                             "the means of the factors A and B of adapters, each for itself",
                                             "the baseline of Zhao et al. 2025");

}  // namespace

LowRank LoraAverage::merge_factors(const MergeInput& input, const std::string& weight,
                                   const std::vector<LowRank>& changes, const std::vector<double>& weights) {
  size_t first = 0;  // that has a say
  while (first + 1 < weights.size() && weights[first] == 0) ++first;
  for (size_t m = first; m < changes.size(); ++m)
    require_input(
        weights[m] == 0 || changes[m].rank() == changes[first].rank(),
        "lora_average: '{}' has factors of rank {} in the adapter of task '{}', and of rank {} in that of task "
        "'{}': factors of different ranks have no mean; take lora_lego, or a method that merges whole weights",
        weight, changes[first].rank(), input.experts[first].task, changes[m].rank(), input.experts[m].task);
  const WeightedMean mean(weights);
  return {mean([&](size_t m) { return changes[m].down; }), mean([&](size_t m) { return changes[m].up; })};
}

}  // namespace amalgam
