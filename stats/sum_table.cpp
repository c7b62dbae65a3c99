#include "stats/sum_table.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "stats/rows.h"

namespace amalgam {
namespace {

// [n...] for one group, [groups, n...] for more.
std::vector<int64_t> by_group(const Layer& layer, std::vector<int64_t> shape) {
  if (layer.groups > 1) shape.insert(shape.begin(), layer.groups);
  return shape;
}

bool makes_same_rows(const Layer& a, const Layer& b) {
  return a.input_of == b.input_of && a.kind == b.kind && a.in == b.in && a.groups == b.groups && a.kernel == b.kernel &&
         a.stride == b.stride && a.padding == b.padding && a.dilation == b.dilation;
}

// The stored rows of a parameter that a layer touches.
struct Part {
  const Layer* layer;
  bool by_column;  // the units are columns
  int64_t begin, end;
};

bool overlap(const Part& a, const Part& b) {
  return a.by_column != b.by_column || (a.begin < b.end && b.begin < a.end);
}

Part weight_part(const Layer& layer) {
  const bool all = layer.kind == LayerKind::kEmbedding;
  return {&layer, layer.transposed, all ? 0 : layer.row_begin,
          all ? std::numeric_limits<int64_t>::max() : layer.row_begin + layer.out};
}

Part bias_part(const Layer& layer) { return {&layer, false, layer.row_begin, layer.row_begin + layer.out}; }

const std::vector<int64_t>& shape_of(const StatisticsHeader& header, const std::string& parameter) {
  const auto found = header.parameter_shapes.find(parameter);
  require_input(found != header.parameter_shapes.end(), "the shape of parameter '{}' is not known", parameter);
  return found->second;
}

int64_t elements(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t size : shape)
    require_input(size >= 0 && !__builtin_mul_overflow(product, size, &product),
                  "there is no parameter of the shape {}", describe(TensorInfo{at::kFloat, shape}));
  return product;
}

bool weight_fits(const Layer& layer, const std::vector<int64_t>& shape) {
  switch (layer.kind) {
    case LayerKind::kLinear:
      return shape.size() == 2 && shape[layer.transposed ? 1 : 0] >= layer.row_begin + layer.out &&
             shape[layer.transposed ? 0 : 1] == layer.in;
    case LayerKind::kConvolution:
      return !shape.empty() && shape[0] >= layer.row_begin + layer.out && elements(shape) % shape[0] == 0 &&
             elements(shape) / shape[0] == layer.in;
    case LayerKind::kEmbedding:
      return shape == std::vector<int64_t>{layer.in, layer.out};
    default:
      return elements(shape) == layer.out;
  }
}

void require_fit(bool fits, const Layer& layer, const std::string& parameter, const std::vector<int64_t>& shape) {
  require_input(fits, "layer '{}' (out {}, in {}) does not fit its parameter '{}' {}", layer.name, layer.out, layer.in,
                parameter, describe(TensorInfo{at::kFloat, shape}));
}

}  // namespace

std::string input_gram_owner(const LayerTable& table, const Layer& layer) {
  for (const Layer& other : table.layers)
    if (makes_same_rows(other, layer)) return other.name;
  return layer.name;
}

std::map<std::string, std::string> entangled_parameters(const LayerTable& table) {
  std::map<std::string, std::vector<Part>> parts;
  std::map<std::string, std::string> entangled;
  const auto add = [&](const std::string& parameter, const Part& part) {
    for (const Part& other : parts[parameter])
      if (overlap(part, other))
        entangled[parameter] = fmt::format(
            "it is part of layer '{}' ({}) and of layer '{}' ({}), whose gradients would have to be summed, example by "
            "example, before they are squared",
            other.layer->name, name_of(other.layer->kind), part.layer->name, name_of(part.layer->kind));
    parts[parameter].push_back(part);
  };
  for (const Layer& layer : table.layers) {
    if (!layer.weight.empty()) add(layer.weight, weight_part(layer));
    if (!layer.bias.empty()) add(layer.bias, bias_part(layer));
  }
  return entangled;
}

std::map<std::string, SumInfo> sum_table(const StatisticsHeader& header) {
  const at::ScalarType dtype = header.dtype == "float32" ? at::kFloat : at::kDouble;
  const auto asked = [&](StatisticKind kind) { return header.kinds.contains(kind); };
  const auto entangled = entangled_parameters(header.layers);
  std::map<std::string, SumInfo> table;
  for (const Layer& layer : header.layers.layers) {
    const std::string& parameter = layer.weight.empty() ? layer.bias : layer.weight;
    const auto add = [&](const std::string& sum, std::vector<int64_t> shape) {
      table[layer.name + "/" + sum] = {{dtype, std::move(shape)}, parameter};
    };
    const bool gram = has_rows(layer) && (asked(StatisticKind::kInputGram) || asked(StatisticKind::kOutputGram));
    const bool moments = has_moments(layer) && asked(StatisticKind::kMoments);
    if (gram || moments) table[layer.name + "/rows"] = {{at::kLong, {}}, parameter};
    if (gram && asked(StatisticKind::kInputGram) && input_gram_owner(header.layers, layer) == layer.name) {
      add("input_gram", by_group(layer, {layer.in, layer.in}));
      add("input_sum", by_group(layer, {layer.in}));
    }
    const int64_t units = layer.out / layer.groups;
    if (gram && asked(StatisticKind::kOutputGram)) add("output_gram", by_group(layer, {units, units}));
    if (moments) {
      add("output_sum", {layer.out});
      add("output_square_sum", {layer.out});
    }
    if (!asked(StatisticKind::kSquaredGradient)) continue;
    for (const std::string& name : {layer.weight, layer.bias}) {
      if (name.empty() || entangled.contains(name)) continue;
      const auto& shape = shape_of(header, name);
      const bool fits =
          name == layer.weight ? weight_fits(layer, shape) : elements(shape) >= layer.row_begin + layer.out;
      require_fit(fits, layer, name, shape);
      table[name + "/squared_gradient"] = {{dtype, shape}, name};
    }
  }
  return table;
}

}  // namespace amalgam
