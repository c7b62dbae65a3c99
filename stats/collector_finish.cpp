// What becomes of a collector's sums: which parameters have none, and why; the statistics themselves.
#include <memory>

#include "core/error.h"
#include "core/symmetric_product.h"
#include "stats/collector.h"
#include "stats/vector_gradient.h"

namespace amalgam {

std::string StatisticsCollector::reason_unobserved(const LayerState& state) const {
  if (!needs().gradients && state.layer->kind == LayerKind::kBias) return {};  // never shown, and it has no sums then
  if (!state.observed && !state.has_gradient) return fmt::format("its layer '{}' did not run", state.layer->name);
  if (needs().gradients && !state.has_gradient)
    return fmt::format("no gradient reached its layer '{}'", state.layer->name);
  return {};
}

void StatisticsCollector::erase_unobserved(const LayerState& state, NamedTensors& sums) const {
  const Layer& layer = *state.layer;
  for (const std::string& parameter : {layer.weight, layer.bias})
    for (const char* sum : {"/squared_gradient", "/gradient_gram"})
      sums.erase(parameter + sum);  // of some of its row slices only
  for (const char* sum : {"/output_gram", "/reduced_output_gram"}) sums.erase(layer.name + sum);
  if (state.observed || layer.kind == LayerKind::kEmbedding) return;
  for (const char* sum : {"/rows", "/reduced_rows", "/output_sum", "/output_square_sum", "/input_gram", "/input_sum",
                          "/reduced_input_gram", "/reduced_input_sum"})
    sums.erase(layer.name + sum);
}

Statistics StatisticsCollector::finish(StatisticsHeader header) const {
  std::map<std::string, std::string> unobserved;  // parameter -> why
  if (header_.kinds.contains(StatisticKind::kSquaredGradient)) {
    unobserved = entangled_parameters(header_.layers);
  } else if (header_.kinds.contains(StatisticKind::kGradientGram)) {
    unobserved = entangled_parameters(header_.layers);
    std::erase_if(unobserved, [&](const auto& entry) { return !is_vector(header_.parameter_shapes.at(entry.first)); });
  }
  NamedTensors sums;
  for (const auto& [name, tensor] : sums_) {
    if (name.ends_with("_gram") && block_of(name) != 1) mirror_lower_triangle(tensor);
    sums[name] = tensor.cpu();
    require_input(
        sums[name].isfinite().all().item<bool>(),
        "the statistics of task '{}' are not finite at '{}': the expert's activations or gradients overflow; run "
        "it in float32, or look for broken values in its data",
        header.task, name);
  }
  for (const auto& [key, state] : states_) {
    const std::string reason = reason_unobserved(state);
    if (reason.empty()) continue;
    erase_unobserved(state, sums);
    for (const std::string& parameter : {state.layer->weight, state.layer->bias})
      if (!parameter.empty()) unobserved.emplace(parameter, reason);
  }
  for (const auto& [parameter, reason] : unobserved) header.unobserved.push_back(parameter + ": " + reason);
  if (header.ranges.empty()) header.ranges = {{0, examples_}};
  header.dtype = header_.dtype;
  header.products = header_.products;
  header.kinds = header_.kinds;
  header.layers = header_.layers;
  header.parameter_shapes = header_.parameter_shapes;
  header.blocks = header_.blocks;
  header.vector_limit = header_.vector_limit;
  return {std::move(header), std::make_shared<const MemoryTensors>(std::move(sums))};
}

}  // namespace amalgam
