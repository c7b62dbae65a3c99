#include "core/layer_table.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace amalgam {
namespace {

constexpr std::array kKindNames = {"linear", "convolution", "embedding",  "layer_norm",    "batch_norm",
                                   "bias",   "rms_norm",    "group_norm", "instance_norm", "scale"};

constexpr int64_t kLargestSize = int64_t{1} << 48;  // sums of a few such numbers do not wrap

LayerKind kind_from(const std::string& name) {
  for (size_t i = 0; i < kKindNames.size(); ++i)
    if (name == kKindNames[i]) return static_cast<LayerKind>(i);
  throw InputError(
      fmt::format("'{}' is no kind of layer{}", name, suggestion(name, {kKindNames.begin(), kKindNames.end()})));
}

nlohmann::json to_json(const Layer& layer) {
  return {{"name", layer.name},
          {"kind", name_of(layer.kind)},
          {"weight", layer.weight},
          {"bias", layer.bias},
          {"row_begin", layer.row_begin},
          {"row_end", layer.row_end},
          {"transposed", layer.transposed},
          {"out", layer.out},
          {"in", layer.in},
          {"groups", layer.groups},
          {"kernel", layer.kernel},
          {"stride", layer.stride},
          {"padding", layer.padding},
          {"dilation", layer.dilation},
          {"input_of", layer.input_of}};
}

Layer layer_from(const nlohmann::json& json) {
  Layer layer;
  layer.name = json.at("name").get<std::string>();
  layer.kind = kind_from(json.at("kind").get<std::string>());
  json.at("weight").get_to(layer.weight);
  json.at("bias").get_to(layer.bias);
  json.at("row_begin").get_to(layer.row_begin);
  json.at("row_end").get_to(layer.row_end);
  json.at("transposed").get_to(layer.transposed);
  json.at("out").get_to(layer.out);
  json.at("in").get_to(layer.in);
  json.at("groups").get_to(layer.groups);
  json.at("kernel").get_to(layer.kernel);
  json.at("stride").get_to(layer.stride);
  json.at("padding").get_to(layer.padding);
  json.at("dilation").get_to(layer.dilation);
  json.at("input_of").get_to(layer.input_of);
  const int64_t columns = layer.kind == LayerKind::kLinear || layer.kind == LayerKind::kConvolution ? 1 : 0;
  require_input(layer.out > 0 && layer.in >= columns && layer.groups > 0 && layer.out % layer.groups == 0,
                "layer '{}' has the impossible shape out {}, in {}, groups {}", layer.name, layer.out, layer.in,
                layer.groups);
  for (const int64_t size : {layer.out, layer.in, layer.groups, layer.row_begin, layer.row_end})
    require_input(size >= 0 && size <= kLargestSize, "layer '{}' has a size or a row {}", layer.name, size);
  return layer;
}

}  // namespace

const char* name_of(LayerKind kind) { return kKindNames.at(static_cast<size_t>(kind)); }

const Layer* LayerTable::find(const std::string& name) const {
  const auto found = std::find_if(layers.begin(), layers.end(), [&](const Layer& layer) { return layer.name == name; });
  return found == layers.end() ? nullptr : &*found;
}

std::string to_json(const LayerTable& table) {
  nlohmann::json layers = nlohmann::json::array();
  for (const Layer& layer : table.layers) layers.push_back(to_json(layer));
  return nlohmann::json{{"layers", layers}, {"aliases", table.aliases}}.dump();
}

LayerTable layer_table_from_json(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    LayerTable table;
    for (const auto& layer : json.at("layers")) table.layers.push_back(layer_from(layer));
    json.at("aliases").get_to(table.aliases);
    return table;
  } catch (const nlohmann::json::exception& error) {
    throw InputError(fmt::format("this is no layer table: {}", error.what()));
  }
}

}  // namespace amalgam
