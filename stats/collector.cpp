#include "stats/collector.h"

#include <ATen/core/grad_mode.h>

#include <memory>

#include "core/error.h"
#include "stats/gram.h"
#include "stats/moments.h"
#include "stats/rows.h"
#include "stats/squared_gradient.h"

namespace amalgam {

void CollectorOptions::declare(OptionSet& set) {
  set.choice("dtype", dtype, {"float64", "float32"}, "of the sums, in memory and in the file");
  set.integer("temporary_mebibytes", temporary_mebibytes, {1, OptionSet::kInfinity},
              "how much of a batch's per-example gradients is held at a time");
}

StatisticsCollector::StatisticsCollector(LayerTable layers, const std::map<std::string, TensorInfo>& parameters,
                                         std::set<StatisticKind> kinds, const CollectorOptions& options)
    : limit_bytes_(options.temporary_mebibytes << 20) {
  header_.dtype = options.dtype;
  header_.kinds = std::move(kinds);
  header_.layers = std::move(layers);
  for (const Layer& layer : header_.layers.layers) {
    for (const std::string& name : {layer.weight, layer.bias}) {
      if (name.empty()) continue;
      const auto found = parameters.find(name);
      require_input(found != parameters.end(), "layer '{}': the model has no parameter '{}'", layer.name, name);
      header_.parameter_shapes[name] = found->second.shape;
    }
    const LayerState state{.layer = &layer, .gram_owner = input_gram_owner(header_.layers, layer)};
    require_input(
        states_.emplace(LayerKey{layer.name, layer.kind}, state).second,
        "the layer table holds '{}' ({}) twice, as where a weight is used both as it is and transposed: leave it "
        "out of the statistics by making it private",
        layer.name, name_of(layer.kind));
  }
  table_ = sum_table(header_);
}

ObserverNeeds StatisticsCollector::needs() const {
  const auto asked = [&](StatisticKind kind) { return header_.kinds.contains(kind); };
  return {.gradients = asked(StatisticKind::kOutputGram) || asked(StatisticKind::kSquaredGradient),
          .outputs = asked(StatisticKind::kMoments)};
}

at::Tensor* StatisticsCollector::sum(const std::string& name, at::Device device) {
  const auto info = table_.find(name);
  if (info == table_.end()) return nullptr;
  at::Tensor& tensor = sums_[name];
  if (!tensor.defined())
    tensor = at::zeros(info->second.tensor.shape, at::dtype(info->second.tensor.dtype).device(device));
  return &tensor;
}

void StatisticsCollector::observe(const LayerObservation& observation) {
  const at::NoGradGuard no_grad;
  const auto found = states_.find({observation.layer.name, observation.layer.kind});
  if (found == states_.end()) return;
  LayerState& state = found->second;
  for (const LayerUse& use : observation.uses) check_use(*state.layer, use);
  if (!observation.repeated) add_inputs_and_outputs(state, observation.uses);
  if (needs().gradients) add_gradients(state, observation.uses);
}

void StatisticsCollector::add_inputs_and_outputs(LayerState& state, const std::vector<LayerUse>& uses) {
  const Layer& layer = *state.layer;
  const bool grams = has_rows(layer), moments = has_moments(layer);
  for (const LayerUse& use : uses) {
    state.observed = true;
    if (!grams && !moments) continue;
    const at::Device device = use.input.device();
    state.positions += examples_of(use) * positions_of(layer, use);
    if (at::Tensor* rows = sum(layer.name + "/rows", device)) add_row_count(layer, use, *rows);
    if (grams && state.gram_owner == layer.name)
      if (at::Tensor* gram = sum(layer.name + "/input_gram", device))
        add_input_gram(layer, use, *gram, *sum(layer.name + "/input_sum", device), limit_bytes_);
    if (moments)
      if (at::Tensor* total = sum(layer.name + "/output_sum", device)) {
        TORCH_CHECK(use.output.defined(), "layer '", layer.name, "': moments need the output, and there is none");
        add_moments(layer, use, *total, *sum(layer.name + "/output_square_sum", device), limit_bytes_);
      }
  }
}

void StatisticsCollector::add_gradients(LayerState& state, const std::vector<LayerUse>& uses) {
  const Layer& layer = *state.layer;
  for (const LayerUse& use : uses) {
    if (!use.output_gradient.defined()) continue;  // the loss does not depend on this use
    state.has_gradient = true;
    if (has_rows(layer))
      if (at::Tensor* gram = sum(layer.name + "/output_gram", use.output_gradient.device()))
        add_output_gram(layer, use, *gram, limit_bytes_);
  }
  if (!state.has_gradient) return;
  const auto device = uses[0].input.defined() ? uses[0].input.device() : uses[0].output_gradient.device();
  if (!layer.weight.empty())
    if (at::Tensor* squared = sum(layer.weight + "/squared_gradient", device))
      add_squared_weight_gradient(layer, uses, *squared, limit_bytes_);
  if (!layer.bias.empty())
    if (at::Tensor* squared = sum(layer.bias + "/squared_gradient", device))
      add_squared_bias_gradient(layer, uses, *squared);
}

void StatisticsCollector::end_batch(int64_t examples) {
  header_.examples += examples;
  if (!header_.kinds.contains(StatisticKind::kInputGram)) return;
  for (const auto& [key, state] : states_) {
    if (!has_rows(*state.layer) || state.gram_owner == key.first) continue;
    const int64_t owner_positions = states_.at({state.gram_owner, key.second}).positions;
    TORCH_CHECK(state.positions == owner_positions, "layers '", key.first, "' and '", state.gram_owner,
                "' are said to be fed the same tensor, but saw ", state.positions, " and ", owner_positions, " rows");
  }
}

std::string StatisticsCollector::reason_unobserved(const LayerState& state) const {
  if (!state.observed) return fmt::format("its layer '{}' did not run", state.layer->name);
  if (needs().gradients && !state.has_gradient)
    return fmt::format("no gradient reached its layer '{}'", state.layer->name);
  return {};
}

Statistics StatisticsCollector::finish(StatisticsHeader header) const {
  std::map<std::string, std::string> unobserved;  // parameter -> why
  if (header_.kinds.contains(StatisticKind::kSquaredGradient)) unobserved = entangled_parameters(header_.layers);
  NamedTensors sums;
  for (const auto& [name, tensor] : sums_) {
    sums[name] = tensor.to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    require_input(
        sums[name].isfinite().all().item<bool>(),
        "the statistics of task '{}' are not finite at '{}': the expert's activations or gradients overflow; run "
        "it in float32, or look for broken values in its data",
        header.task, name);
  }
  for (const auto& [key, state] : states_) {
    const std::string reason = reason_unobserved(state);
    if (reason.empty()) continue;
    for (const std::string& parameter : {state.layer->weight, state.layer->bias}) {
      if (parameter.empty()) continue;
      unobserved.emplace(parameter, reason);
      sums.erase(parameter + "/squared_gradient");  // of some of its row slices only
    }
  }
  for (const auto& [parameter, reason] : unobserved) header.unobserved.push_back(parameter + ": " + reason);
  header.examples = header_.examples;
  header.dtype = header_.dtype;
  header.kinds = header_.kinds;
  header.layers = header_.layers;
  header.parameter_shapes = header_.parameter_shapes;
  return {std::move(header), std::make_shared<const MemoryTensors>(std::move(sums))};
}

}  // namespace amalgam
