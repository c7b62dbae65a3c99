#include "solvers/methods/regmean.h"

#include "solvers/linear/kronecker_sum.h"
#include "solvers/methods/gram_solve.h"
#include "solvers/methods/layer_batch.h"
#include "solvers/methods/layer_factors.h"

namespace amalgam {
namespace {

const RegisterMethod<RegMean> registered("regmean", "least squares on every expert's own layer inputs",
                                         "Jin et al. 2023");

}  // namespace

MethodRequirements RegMean::requirements() const {
  MethodRequirements requirements{.statistics = {StatisticKind::kInputGram}, .layers = true};
  if (weights_ == "gradient") requirements.statistics.insert(StatisticKind::kOutputGram);
  return requirements;
}

void RegMean::declare_options(OptionSet& set) {
  set.real("off_diagonal", off_diagonal_, {0, 1}, "factor of the Gram matrices' off-diagonal elements, λ");
  set.real("ridge", ridge_, {0, 1}, "added to the summed Gram matrix, relative to its mean diagonal");
  set.choice("weights", weights_, {"uniform", "gradient"},
             "uniform: the tasks' weights; gradient: these times the trace of the layer's output gradients");
}

std::string RegMean::memory_key() const { return "regmean, weights " + weights_; }

GroupResult RegMean::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  const LayerBatch batch(input, group.layers);
  const auto sums = group.remember<GramSums>(memory_key(), [&] {
    GramSums fresh(batch);
    for (const ExpertInput& expert : input.experts) {
      checkpoint();
      at::Tensor gram =
          batch.stack([&](const LayerMatrix& layer) { return input_factor(expert, layer, input.device); }, at::kDouble);
      if (weights_ == "gradient")
        gram.mul_(batch.stack(
            [&](const LayerMatrix& layer) {
              return traces(output_factor(expert, layer, input.device)).view({-1, 1, 1});
            },
            at::kDouble));
      fresh.add(batch, expert, gram.mul_(expert.weight));
    }
    return fresh;
  });
  return solve_gram(batch, *sums, off_diagonal_, ridge_);
}

}  // namespace amalgam
