#include "solvers/merge_plan.h"

#include <algorithm>
#include <utility>

#include "solvers/merge_share.h"

namespace amalgam {
namespace {

/// Equal for groups of the same parameters and layers.
std::string signature(const MergeGroup& group) {
  std::string text;
  for (const std::string& name : group.parameters) text += name + '\n';
  for (const LayerMatrix& layer : group.layers) text += layer.layer().name + (layer.with_bias() ? "\n+\n" : "\n\n");
  return text;
}

std::vector<std::string> parameters_of(const MergeGroup& group) {
  std::vector<std::string> names = group.parameters;
  for (const LayerMatrix& layer : group.layers) {
    names.push_back(layer.layer().weight);
    if (layer.with_bias()) names.push_back(layer.layer().bias);
  }
  return names;
}

void prefetch_sums(const MergeGroup& group, const std::set<StatisticKind>& kinds, const Statistics& statistics) {
  for (const LayerMatrix& layer : group.layers) statistics.sums().prefetch(statistics.sum_names(layer.layer(), kinds));
  for (const std::string& name : group.parameters)
    for (const auto& [kind, sum] : {std::pair{StatisticKind::kSquaredGradient, "/squared_gradient"},
                                    std::pair{StatisticKind::kGradientGram, "/gradient_gram"}})
      if (kinds.contains(kind)) statistics.sums().prefetch({name + sum});
}

}  // namespace

MergePlan::MergePlan(std::span<MergeMethod* const> methods, const MergeInput& input)
    : methods_(methods), input_(input) {
  for (const MergeMethod* method : methods_) groupings_.push_back(form_groups(*method, input_));
  join_groups();
  for (size_t v = 0; v < groupings_.size(); ++v)
    for (const Fallback& fallback : groupings_[v].fallbacks) {
      averaged_[fallback.parameter].variants.push_back(v);
      averaged_[fallback.parameter].whole += fallback.rows_only ? 0 : 1;
    }
}

/// Of a group's variants those that can share what they find out come one after the other.
void MergePlan::join_groups() {
  std::map<std::string, size_t> known;
  for (size_t v = 0; v < groupings_.size(); ++v)
    for (const MergeGroup& group : groupings_[v].groups) {
      const auto [found, fresh] = known.emplace(signature(group), work_.size());
      if (fresh) work_.push_back({&group, {}, 0});
      work_[found->second].variants.push_back(v);
    }
  for (GroupWork& work : work_)
    std::stable_sort(work.variants.begin(), work.variants.end(),
                     [&](size_t a, size_t b) { return methods_[a]->memory_key() < methods_[b]->memory_key(); });
}

void MergePlan::share(int processes) {
  std::vector<double> costs, busy(static_cast<size_t>(processes), 0.0);
  for (const GroupWork& work : work_)
    costs.push_back(merge_cost(*work.group, input_) * static_cast<double>(work.variants.size()));
  for (const auto& [name, averaged] : averaged_) busy[0] += merge_cost({{name}, {}}, input_);
  const std::vector<int> process = share_out(costs, busy);
  for (size_t i = 0; i < work_.size(); ++i) work_[i].process = process[i];
}

void prefetch(const GroupWork& work, std::span<MergeMethod* const> methods, const MergeInput& input) {
  MethodRequirements wanted;
  for (const size_t v : work.variants) {
    MethodRequirements requirements = methods[v]->requirements();
    wanted.base = wanted.base || requirements.base || requirements.layers;
    wanted.statistics.merge(requirements.statistics);
  }
  const std::vector<std::string> names = parameters_of(*work.group);
  if (wanted.base && input.base != nullptr) input.base->prefetch(names);
  for (const ExpertInput& expert : input.experts) {
    expert.tensors->prefetch(names);
    if (expert.statistics != nullptr) prefetch_sums(*work.group, wanted.statistics, *expert.statistics);
  }
}

}  // namespace amalgam
