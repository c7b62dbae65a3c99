#include "solvers/merge.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "core/error.h"
#include "solvers/check.h"
#include "solvers/methods/average.h"
#include "solvers/partly_merged.h"

namespace amalgam {
namespace {

class Merger {
 public:
  Merger(MergeMethod& method, const MergeInput& input, Progress& progress)
      : method_(method), input_(input), progress_(progress) {}

  MergeOutcome run() {
    const auto begin = std::chrono::steady_clock::now();
    progress_.begin("merge", static_cast<int64_t>(input_.parameters.size()));
    method_.plan(input_);
    Grouping grouping = form_groups(method_, input_);
    outcome_.report.method = method_.name();
    outcome_.report.fallbacks = grouping.fallbacks;

    for (const Fallback& fallback : grouping.fallbacks) {  // first: a method's rows then go over the average's
      average(fallback.parameter);
      progress_.update(finished_ += fallback.rows_only ? 0 : 1, fallback.parameter);
    }
    for (const std::string& buffer : input_.buffers) average(buffer);
    announce_blocks(grouping);
    PartlyMerged so_far(outcome_.merged, layers_of(grouping));
    for (MergeGroup& group : grouping.groups) {
      group.so_far = &so_far;
      merge_group(group);
      so_far.advance(group.layers.size());
    }
    for (const auto& [name, tensor] : outcome_.merged) check_finite(name, tensor);
    sort_reports();
    outcome_.report.merged_parameters = static_cast<int64_t>(input_.parameters.size()) -
                                        std::count_if(grouping.fallbacks.begin(), grouping.fallbacks.end(),
                                                      [](const Fallback& f) { return !f.rows_only; });
    outcome_.report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    progress_.end();
    return std::move(outcome_);
  }

 private:
  static std::vector<LayerMatrix> layers_of(const Grouping& grouping) {
    std::vector<LayerMatrix> layers;
    for (const MergeGroup& group : grouping.groups)
      layers.insert(layers.end(), group.layers.begin(), group.layers.end());
    return layers;
  }

  /// Says what it takes to run the models while merging: the one thing that makes a merge as long as collecting, and
  /// longer.
  void announce_blocks(const Grouping& grouping) {
    if (!method_.requirements().probe || grouping.groups.empty()) return;
    const auto heard = std::count_if(input_.experts.begin(), input_.experts.end(),
                                     [](const ExpertInput& expert) { return expert.weight != 0; });
    progress_.message(fmt::format(
        "{}: {} block{} one after the other, each with one forward pass over the examples of {} task{}", method_.name(),
        grouping.groups.size(), grouping.groups.size() == 1 ? "" : "s", heard, heard == 1 ? "" : "s"));
  }

  const TensorInfo& info(const std::string& name) const { return input_.experts.front().tensors->infos().at(name); }

  void average(const std::string& name) {
    const bool floating = at::isFloatingType(info(name).dtype);
    store(name, floating ? average_parameter(input_, name) : input_.experts.front().tensors->get(name));
  }

  void store(const std::string& name, const at::Tensor& value) {
    TORCH_CHECK(value.sizes() == at::IntArrayRef(info(name).shape), "method ", method_.name(), " gives ", name,
                " the sizes ", value.sizes());
    at::Tensor stored = at::empty(info(name).shape, at::TensorOptions(at::kCPU).dtype(info(name).dtype));
    stored.copy_(value);  // a copy of its own, never a view of an expert's file
    outcome_.merged[name] = stored;
  }

  void merge_group(const MergeGroup& group) {
    const std::string& first = group.layers.empty() ? group.parameters.front() : group.layers.front().layer().name;
    const std::string& note = group.block.empty() ? first : group.block;
    const Checkpoint checkpoint = [&] { progress_.update(finished_, note); };
    checkpoint();
    GroupResult result = method_.merge_group(input_, group, checkpoint);

    for (const std::string& name : group.parameters) {
      TORCH_CHECK(result.merged.contains(name), "method ", method_.name(), " did not merge ", name);
      store(name, result.merged.at(name));
      ++finished_;
    }
    TORCH_CHECK(result.matrices.size() == group.layers.size(), "method ", method_.name(), " merged ",
                result.matrices.size(), " of ", group.layers.size(), " layers");
    for (size_t i = 0; i < group.layers.size(); ++i) {
      const Layer& layer = group.layers[i].layer();
      make_room(layer.weight);
      if (group.layers[i].with_bias()) make_room(layer.bias);
      group.layers[i].scatter(result.matrices[i], outcome_.merged);
    }
    outcome_.report.layers.insert(outcome_.report.layers.end(), result.reports.begin(), result.reports.end());
  }

  /// A parameter that layers write into, slice by slice.
  void make_room(const std::string& name) {
    if (outcome_.merged.contains(name)) return;
    outcome_.merged[name] = at::empty(info(name).shape, at::TensorOptions(at::kCPU).dtype(info(name).dtype));
    ++finished_;
  }

  void check_finite(const std::string& name, const at::Tensor& tensor) const {
    if (!tensor.is_floating_point() || tensor.isfinite().all().item<bool>()) return;
    for (const ExpertInput& expert : input_.experts)
      require_input(expert.tensors->get(name).isfinite().all().item<bool>(),
                    "'{}' of expert '{}' holds a value that is not finite; mend or retrain that expert", name,
                    expert.task);
    throw InputError(
        fmt::format("method '{}' made values of '{}' that are not finite in {}; lower its scale, or store the "
                    "experts in a wider dtype",
                    method_.name(), name, describe(info(name))));
  }

  /// Groups go by shape; a reader looks for the model's order.
  void sort_reports() {
    std::map<std::string, size_t> position;
    for (const Layer& layer : input_.layers.layers)
      for (const std::string& name : {layer.name, layer.weight, layer.bias}) position.emplace(name, position.size());
    std::stable_sort(outcome_.report.layers.begin(), outcome_.report.layers.end(),
                     [&](const LayerReport& a, const LayerReport& b) { return position[a.layer] < position[b.layer]; });
  }

  MergeMethod& method_;
  const MergeInput& input_;
  Progress& progress_;
  MergeOutcome outcome_;
  int64_t finished_ = 0;  // parameters
};

}  // namespace

MergeOutcome merge(MergeMethod& method, const MergeInput& input, Progress& progress) {
  const at::NoGradGuard no_grad;
  check_requirements(method, input);
  check_experts(input);
  return Merger(method, input, progress).run();
}

}  // namespace amalgam
