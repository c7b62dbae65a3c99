#include "solvers/methods/regmean_plus_plus.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "core/error.h"
#include "solvers/methods/gram_solve.h"
#include "solvers/methods/layer_batch.h"
#include "solvers/methods/layer_factors.h"
#include "solvers/partly_merged.h"

namespace amalgam {
namespace {

const RegisterMethod<RegMeanPlusPlus> registered("regmean++",
                                                 "regmean block by block, on the inputs that the merged blocks make",
                                                 "Nguyen et al. 2025 (RegMean++)");

/// "encoder.layer.3." of "encoder.layer.3.query.weight": up to the first part between dots that is a number. Empty
/// where there is none.
std::string numbered_prefix(const std::string& name) {
  for (size_t begin = 0, dot = 0; (dot = name.find('.', begin)) != std::string::npos; begin = dot + 1) {
    const std::string part = name.substr(begin, dot - begin);
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string::npos) return name.substr(0, dot + 1);
  }
  return "";
}

/// What the block's layers are fed in the partly merged model of one expert, as statistics.
Statistics probe_block(const MergeInput& input, const ExpertInput& expert, const MergeGroup& group,
                       const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const LayerMatrix& layer : group.layers) names.push_back(layer.layer().name);
  InputGramSums grams = input.probe->input_grams(expert.task, names, group.so_far->over(*expert.tensors), checkpoint);
  StatisticsHeader header = expert.statistics->header();
  header.kinds = {StatisticKind::kInputGram};
  header.blocks = std::move(grams.blocks);
  Statistics statistics(std::move(header), std::make_shared<const MemoryTensors>(std::move(grams.sums)));
  for (const LayerMatrix& layer : group.layers)
    require_input(statistics.has_input_gram(layer.layer()),
                  "task '{}': layer '{}' is not fed anything in the partly merged model, which it was in the expert; "
                  "leave it out with `except`",
                  expert.task, layer.layer().name);
  return statistics;
}

/// The positions in the group of layers whose matrices have one shape.
std::vector<std::vector<size_t>> by_shape(const MergeGroup& group) {
  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> positions;
  for (size_t i = 0; i < group.layers.size(); ++i)
    positions[{group.layers[i].rows(), group.layers[i].columns()}].push_back(i);
  std::vector<std::vector<size_t>> result;
  for (auto& [shape, of_shape] : positions) result.push_back(std::move(of_shape));
  return result;
}

}  // namespace

MethodRequirements RegMeanPlusPlus::requirements() const {
  return {.statistics = {StatisticKind::kInputGram}, .layers = true, .probe = true};
}

void RegMeanPlusPlus::declare_options(OptionSet& set) {
  set.real("off_diagonal", off_diagonal_, {0, 1}, "factor of the Gram matrices' off-diagonal elements, λ");
  set.real("ridge", ridge_, {0, 1}, "added to the summed Gram matrix, relative to its mean diagonal");
  set.choice("blocks", blocks_, {"auto", "layer"},
             "what is merged in one step. auto: layers whose names agree up to their first number; layer: each by "
             "itself");
}

std::string RegMeanPlusPlus::block_of(const Layer& layer) const {
  const std::string prefix = blocks_ == "auto" ? numbered_prefix(layer.weight) : "";
  return prefix.empty() ? layer.input_of : prefix;
}

GroupResult RegMeanPlusPlus::merge_group(const MergeInput& input, const MergeGroup& group,
                                         const Checkpoint& checkpoint) {
  MergeInput seen = input;  // with the statistics of the partly merged models
  seen.experts.clear();
  std::vector<std::unique_ptr<const Statistics>> statistics;
  for (const ExpertInput& expert : input.experts) {
    checkpoint();
    if (expert.weight == 0) continue;  // it would cost a pass and change nothing
    statistics.push_back(std::make_unique<const Statistics>(probe_block(input, expert, group, checkpoint)));
    seen.experts.push_back({expert.task, expert.weight, expert.tensors, statistics.back().get()});
  }

  GroupResult result;
  result.matrices.resize(group.layers.size());
  for (const std::vector<size_t>& positions : by_shape(group)) {
    checkpoint();
    std::vector<LayerMatrix> layers;
    for (const size_t position : positions) layers.push_back(group.layers[position]);
    const LayerBatch batch(seen, layers);
    GramEquations equations(batch);
    for (const ExpertInput& expert : seen.experts) {
      at::Tensor gram = batch.stack([&](const LayerMatrix& layer) { return input_factor(expert, layer, input.device); },
                                    at::kDouble);  // [L, columns, columns]
      scale_off_diagonal(gram, off_diagonal_);
      equations.add(*expert.tensors, gram.mul_(expert.weight));
    }
    const GroupResult part = equations.solve(ridge_);
    for (size_t i = 0; i < positions.size(); ++i) result.matrices[positions[i]] = part.matrices[i];
    result.reports.insert(result.reports.end(), part.reports.begin(), part.reports.end());
  }
  return result;
}

}  // namespace amalgam
