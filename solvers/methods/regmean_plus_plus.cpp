#include "solvers/methods/regmean_plus_plus.h"

#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "core/error.h"
#include "solvers/methods/block_names.h"
#include "solvers/methods/gram_solve.h"
#include "solvers/methods/layer_batch.h"
#include "solvers/methods/layer_factors.h"
#include "solvers/partly_merged.h"

namespace amalgam {
namespace {

const RegisterMethod<RegMeanPlusPlus> registered("regmean++",
                                                 "regmean block by block, on the inputs that the merged blocks make",
                                                 "Nguyen et al. 2025 (RegMean++)");

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

/// The layers of a block whose matrices have one shape.
class Part {
 public:
  Part(const MergeInput& input, std::vector<size_t> positions, std::vector<LayerMatrix> layers)
      : positions_(std::move(positions)), layers_(std::move(layers)), batch_(input, layers_), sums_(batch_) {}
  Part(const Part&) = delete;  // its members point to one another
  Part& operator=(const Part&) = delete;

  /// What the expert's statistics say, or nothing where it has none: it has no weight.
  void add(const ExpertInput& expert) {
    if (expert.statistics == nullptr) return sums_.add(batch_, expert, at::zeros_like(sums_.gram));
    const at::Device device = batch_.input().device;
    at::Tensor gram = batch_.stack([&](const LayerMatrix& layer) { return input_factor(expert, layer, device); },
                                   at::kDouble);  // [L, columns, columns]
    sums_.add(batch_, expert, gram.mul_(expert.weight));
  }

  void solve(double off_diagonal, double ridge, GroupResult& block) const {
    const GroupResult own = solve_gram(batch_, sums_, off_diagonal, ridge);
    for (size_t i = 0; i < positions_.size(); ++i) {
      block.matrices[positions_[i]] = own.matrices[i];
      block.reports[positions_[i]] = own.reports[i];
    }
  }

 private:
  std::vector<size_t> positions_;  // in the block
  std::vector<LayerMatrix> layers_;
  LayerBatch batch_;
  GramSums sums_;
};

/// In a deque, since parts cannot move.
std::deque<Part> parts_of(const MergeInput& input, const MergeGroup& group) {
  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> by_shape;
  for (size_t i = 0; i < group.layers.size(); ++i)
    by_shape[{group.layers[i].rows(), group.layers[i].columns()}].push_back(i);
  std::deque<Part> parts;
  for (const auto& [shape, positions] : by_shape) {
    std::vector<LayerMatrix> layers;
    for (const size_t position : positions) layers.push_back(group.layers[position]);
    parts.emplace_back(input, positions, std::move(layers));
  }
  return parts;
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
  std::deque<Part> parts = parts_of(input, group);
  for (const ExpertInput& expert : input.experts) {  // one expert's Gram matrices in memory at a time
    checkpoint();
    if (expert.weight == 0) {  // a pass for it would change nothing
      for (Part& part : parts) part.add({expert.task, 0.0, expert.tensors, nullptr});
      continue;
    }
    const Statistics seen = probe_block(input, expert, group, checkpoint);
    for (Part& part : parts) part.add({expert.task, expert.weight, expert.tensors, &seen});
  }
  checkpoint();
  GroupResult result;
  result.matrices.resize(group.layers.size());
  result.reports.resize(group.layers.size());
  for (const Part& part : parts) part.solve(off_diagonal_, ridge_, result);
  return result;
}

}  // namespace amalgam
