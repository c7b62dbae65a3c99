#include "apps/reset_passes.h"

#include <algorithm>
#include <map>

#include "core/tensor_source.h"
#include "datasets/loader.h"
#include "datasets/mixed_source.h"

namespace amalgam {
namespace {

/// Shapes and dtypes of the inputs of an example, by position and by name.
using Layout = std::map<std::string, TensorInfo>;

struct Group {
  Layout layout;
  std::vector<std::pair<std::string, const Dataset*>> tasks;
};

Layout layout_of(const Dataset& data) {
  const Batch example = data.get({0});
  Layout layout;
  const auto add = [&](const std::string& name, const at::Tensor& input) {
    layout[name] = {input.scalar_type(), input.sizes().vec()};
  };
  for (size_t i = 0; i < example.inputs.size(); ++i) add(std::to_string(i), example.inputs[i]);
  for (const auto& [name, input] : example.named_inputs) add("." + name, input);
  return layout;
}

}  // namespace

std::vector<ResetPass> reset_passes(const std::vector<std::pair<std::string, const Dataset*>>& tasks,
                                    const EvaluateSpec& spec, uint64_t seed, int64_t examples) {
  std::vector<Group> groups;
  for (const auto& task : tasks) {
    const Layout layout = layout_of(*task.second);
    auto alike = std::ranges::find(groups, layout, &Group::layout);
    if (alike == groups.end()) alike = groups.insert(alike, {layout, {}});
    alike->tasks.push_back(task);
  }
  std::vector<ResetPass> passes;
  for (const Group& group : groups) {
    std::vector<std::unique_ptr<BatchSource>> sources;
    for (const auto& [name, data] : group.tasks) {
      LoaderOptions loading;
      loading.batch = std::max(int64_t{1}, spec.batch / std::ssize(group.tasks));
      loading.examples = examples;
      loading.drawn = true;
      loading.seed = seed;
      loading.label = "reset/" + name;
      sources.push_back(std::make_unique<Loader>(*data, loading));
    }
    passes.push_back({group.tasks.front().first, std::make_unique<MixedSource>(std::move(sources))});
  }
  return passes;
}

bool moments_never_moved(const MergeInput& input) {
  bool some = false;
  for (const std::string& name : input.buffers) {
    const at::Tensor of_base = input.base->get(name);
    if (!of_base.is_floating_point()) continue;
    some = true;
    for (const ExpertInput& expert : input.experts)
      if (!at::equal(expert.tensors->get(name), of_base)) return false;
  }
  return some;
}

}  // namespace amalgam
