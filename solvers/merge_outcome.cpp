#include "solvers/merge_outcome.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/finite.h"
#include "solvers/methods/average.h"

namespace amalgam {
namespace {

const TensorInfo& info_of(const MergeInput& input, const std::string& name) {
  return input.experts.front().tensors->infos().at(name);
}

}  // namespace

at::Tensor value_without_method(const MergeInput& input, const std::string& name) {
  const bool floating = at::isFloatingType(info_of(input, name).dtype);
  return floating ? average_in_pieces(input, name) : input.experts.front().tensors->get(name);
}

at::Tensor merged_buffer(const MergeMethod& method, const MergeInput& input, const std::string& name) {
  if (!method.selects(name)) return value_without_method(input, name);
  const std::vector<double> weights = method.buffer_weights(input, name);
  MergeInput counted;
  counted.device = input.device;
  counted.group_bytes = input.group_bytes;
  for (size_t m = 0; m < weights.size(); ++m)
    if (weights[m] > 0) counted.experts.push_back({input.experts[m].task, weights[m], input.experts[m].tensors});
  return value_without_method(counted.experts.empty() ? input : counted, name);
}

at::Tensor stored_value(const MergeMethod& method, const MergeInput& input, const std::string& name,
                        const at::Tensor& value) {
  const TensorInfo& info = info_of(input, name);
  TORCH_CHECK(value.sizes() == at::IntArrayRef(info.shape), "method ", method.name(), " gives ", name, " the sizes ",
              value.sizes());
  at::Tensor stored = at::empty(info.shape, at::TensorOptions(at::kCPU).dtype(info.dtype));
  return stored.copy_(value);
}

void check_finite(const MergeMethod& method, const MergeInput& input, const std::string& name,
                  const at::Tensor& stored) {
  if (!stored.is_floating_point() || all_finite(stored)) return;
  for (const ExpertInput& expert : input.experts)
    require_input(all_finite(expert.tensors->get(name)),
                  "'{}' of expert '{}' holds a value that is not finite; mend or retrain that expert", name,
                  expert.task);
  throw InputError(
      fmt::format("method '{}' made values of '{}' that are not finite in {}; lower its scale, or store the "
                  "experts in a wider dtype",
                  method.name(), name, describe(info_of(input, name))));
}

void check_result(const MergeMethod& method, const MergeGroup& group, const GroupResult& result) {
  for (const std::string& name : group.parameters)
    TORCH_CHECK(result.merged.contains(name), "method ", method.name(), " did not merge ", name);
  TORCH_CHECK(result.matrices.size() == group.layers.size(), "method ", method.name(), " merged ",
              result.matrices.size(), " of ", group.layers.size(), " layers");
}

OutcomeBuilder::OutcomeBuilder(const MergeMethod& method, const MergeInput& input) : method_(method), input_(input) {
  outcome_.report.method = method.name();
}

void OutcomeBuilder::store(const std::string& name, const at::Tensor& value) {
  outcome_.merged[name] = stored_value(method_, input_, name, value);
}

int64_t OutcomeBuilder::add(const MergeGroup& group, const GroupResult& result) {
  auto fresh = static_cast<int64_t>(group.parameters.size());
  for (const std::string& name : group.parameters) store(name, result.merged.at(name));
  for (size_t i = 0; i < group.layers.size(); ++i) {
    const Layer& layer = group.layers[i].layer();
    fresh += make_room(layer.weight) ? 1 : 0;
    if (group.layers[i].with_bias()) fresh += make_room(layer.bias) ? 1 : 0;
    group.layers[i].scatter(result.matrices[i], outcome_.merged);
  }
  outcome_.report.layers.insert(outcome_.report.layers.end(), result.reports.begin(), result.reports.end());
  return fresh;
}

/// A parameter that layers write into, slice by slice; whether it was not there.
bool OutcomeBuilder::make_room(const std::string& name) {
  if (outcome_.merged.contains(name)) return false;
  outcome_.merged[name] =
      at::empty(info_of(input_, name).shape, at::TensorOptions(at::kCPU).dtype(info_of(input_, name).dtype));
  return true;
}

MergeOutcome OutcomeBuilder::finish(std::vector<Fallback> fallbacks, double seconds) {
  for (const auto& [name, tensor] : outcome_.merged) check_finite(method_, input_, name, tensor);
  sort_reports();
  const auto whole = std::count_if(fallbacks.begin(), fallbacks.end(), [](const Fallback& f) { return !f.rows_only; });
  outcome_.report.merged_parameters = static_cast<int64_t>(input_.parameters.size()) - whole;
  outcome_.report.fallbacks = std::move(fallbacks);
  outcome_.report.seconds = seconds;
  return std::move(outcome_);
}

/// Groups go by shape; a reader looks for the model's order.
void OutcomeBuilder::sort_reports() {
  // Of a parameter its own; of a layer its parameter's, and among the layers that share it the layer's own.
  std::map<std::string, std::pair<size_t, size_t>> position;
  for (size_t i = 0; i < input_.parameters.size(); ++i) position[input_.parameters[i]] = {i, 0};
  const auto& layers = input_.layers.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto found = position.find(layers[i].weight.empty() ? layers[i].bias : layers[i].weight);
    if (found != position.end()) position[layers[i].name] = {found->second.first, i};
  }
  const auto of = [&](const LayerReport& report) {
    const auto found = position.find(report.layer);
    return found != position.end() ? found->second : std::pair(input_.parameters.size(), layers.size());
  };
  std::stable_sort(outcome_.report.layers.begin(), outcome_.report.layers.end(),
                   [&](const LayerReport& a, const LayerReport& b) { return of(a) < of(b); });
}

}  // namespace amalgam
