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

/// Examples of each task in a batch: as many of the largest as there is room for, and of the others so few that they
/// last as long.
std::vector<int64_t> shares_of(const Group& group, int64_t batch, int64_t examples) {
  const auto quotient = [](int64_t number, int64_t parts) { return (number + parts - 1) / parts; };  // rounded up
  const int64_t room = std::max(int64_t{1}, batch / std::ssize(group.tasks));
  std::vector<int64_t> counts, shares;
  for (const auto& [name, data] : group.tasks) counts.push_back(std::min(examples, data->size()));
  const int64_t most = std::ranges::max(counts);
  for (const int64_t count : counts) shares.push_back(count == most ? room : quotient(count, quotient(most, room)));
  return shares;
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
    const std::vector<int64_t> shares = shares_of(group, spec.batch, examples);
    std::vector<std::unique_ptr<BatchSource>> sources;
    for (size_t i = 0; i < group.tasks.size(); ++i) {
      const auto& [name, data] = group.tasks[i];
      LoaderOptions loading;
      loading.batch = shares[i];
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
