#include "stats/sum_table.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"
#include "core/patterns.h"
#include "stats/rows.h"
#include "stats/vector_gradient.h"

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

// The words of a form's kinds.
struct FormKinds {
  KroneckerForm form;
  StatisticKind input, output;
};
constexpr std::array kForms = {
    FormKinds{KroneckerForm::kExpand, StatisticKind::kInputGram, StatisticKind::kOutputGram},
    FormKinds{KroneckerForm::kReduce, StatisticKind::kReducedInputGram, StatisticKind::kReducedOutputGram}};

// Calls body(layer, name of the sum, width of one matrix) for each Gram matrix of a header's kinds and layers.
template <class Body>
void for_each_gram(const StatisticsHeader& header, Body body) {
  for (const Layer& layer : header.layers.layers) {
    if (!has_grams(header.layers, layer)) continue;
    for (const FormKinds& kinds : kForms) {
      if (header.kinds.contains(kinds.input) && input_gram_owner(header.layers, layer) == layer.name)
        body(layer, layer.name + "/" + sum_name("input_gram", kinds.form), layer.in);
      if (header.kinds.contains(kinds.output))
        body(layer, layer.name + "/" + sum_name("output_gram", kinds.form), layer.out / layer.groups);
    }
  }
}

// Of a Gram matrix of `width` columns, whole or in blocks (0).
std::vector<int64_t> gram_shape(const Layer& layer, int64_t width, int64_t block) {
  if (block == 0) return by_group(layer, {width, width});
  if (block == 1) return by_group(layer, {width});
  return by_group(layer, {(width + block - 1) / block, block, block});
}

int64_t block_of(const StatisticsHeader& header, const std::string& name, int64_t width) {
  const auto found = header.blocks.find(name);
  if (found == header.blocks.end()) return 0;
  require_input(found->second > 0 && found->second < width, "'{}' is said to be in blocks of {} of its {} columns",
                name, found->second, width);
  return found->second;
}

}  // namespace

std::string sum_name(const std::string& sum, KroneckerForm form) {
  return form == KroneckerForm::kReduce ? "reduced_" + sum : sum;
}

bool has_grams(const LayerTable& table, const Layer& layer) {
  return has_rows(layer) && std::ranges::none_of(table.layers, [&](const Layer& other) {
           return other.kind == LayerKind::kEmbedding && other.weight == layer.weight;
         });
}

std::set<std::string> former_sums(const StatisticsHeader& header) {
  std::set<std::string> names;
  for (const Layer& layer : header.layers.layers) {
    if (!has_rows(layer) || has_grams(header.layers, layer)) continue;
    for (const FormKinds& kinds : kForms)
      for (const char* sum : {"input_gram", "input_sum", "output_gram", "rows"})
        names.insert(layer.name + "/" + sum_name(sum, kinds.form));
    if (header.kinds.contains(StatisticKind::kMoments)) names.erase(layer.name + "/rows");
  }
  return names;
}

std::string input_gram_owner(const LayerTable& table, const Layer& layer) {
  for (const Layer& other : table.layers)
    if (makes_same_rows(other, layer) && has_grams(table, other)) return other.name;
  return layer.name;
}

std::map<std::string, TiedWeight> tied_weights(const LayerTable& table) {
  std::map<std::string, TiedWeight> tied;
  std::map<std::string, int64_t> uses;
  for (const Layer& layer : table.layers) {
    if (!layer.weight.empty()) ++uses[layer.weight];
    if (!layer.bias.empty()) ++uses[layer.bias];
    if (layer.kind == LayerKind::kEmbedding) tied[layer.weight].embedding = &layer;
    if (layer.kind == LayerKind::kLinear) tied[layer.weight].head = &layer;
  }
  std::erase_if(tied, [&](const auto& entry) {
    const auto& [parameter, pair] = entry;
    return pair.embedding == nullptr || pair.head == nullptr || uses[parameter] != 2 || pair.head->transposed ||
           pair.head->out != pair.embedding->in || pair.head->in != pair.embedding->out;
  });
  return tied;
}

std::map<std::string, std::string> entangled_parameters(const LayerTable& table) {
  const auto tied = tied_weights(table);
  std::map<std::string, std::vector<Part>> parts;
  std::map<std::string, std::string> entangled;
  const auto add = [&](const std::string& parameter, const Part& part) {
    for (const Part& other : parts[parameter])
      if (overlap(part, other) && !tied.contains(parameter))
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

std::map<std::string, int64_t> gram_blocks(const StatisticsHeader& header, int64_t block_size,
                                           const std::vector<std::string>& diagonal) {
  std::map<std::string, int64_t> blocks;
  for_each_gram(header, [&](const Layer& layer, const std::string& name, int64_t width) {
    const int64_t wanted = matches_any(diagonal, layer.name) ? 1 : block_size;
    if (wanted > 0 && wanted < width) blocks[name] = wanted;
  });
  return blocks;
}

std::map<std::string, SumInfo> sum_table(const StatisticsHeader& header) {
  const at::ScalarType dtype = header.dtype == "float32" ? at::kFloat : at::kDouble;
  const auto asked = [&](StatisticKind kind) { return header.kinds.contains(kind); };
  const auto entangled = entangled_parameters(header.layers);
  std::map<std::string, SumInfo> table;
  for_each_gram(header, [&](const Layer& layer, const std::string& name, int64_t width) {
    table[name] = {{dtype, gram_shape(layer, width, block_of(header, name, width))}, layer.weight, layer.name};
  });
  for (const auto& [name, block] : header.blocks)
    require_input(table.contains(name), "'{}' is said to be in blocks, and there is no such Gram matrix", name);
  for (const Layer& layer : header.layers.layers) {
    const std::string& parameter = layer.weight.empty() ? layer.bias : layer.weight;
    const auto add = [&](const std::string& sum, at::ScalarType of, std::vector<int64_t> shape) {
      table[layer.name + "/" + sum] = {{of, std::move(shape)}, parameter, layer.name};
    };
    const bool moments = has_moments(layer) && asked(StatisticKind::kMoments);
    for (const FormKinds& kinds : kForms) {
      if (!has_grams(header.layers, layer)) continue;
      if (asked(kinds.input) || asked(kinds.output)) add(sum_name("rows", kinds.form), at::kLong, {});
      if (asked(kinds.input) && input_gram_owner(header.layers, layer) == layer.name)
        add(sum_name("input_sum", kinds.form), dtype, by_group(layer, {layer.in}));
    }
    if (moments) {
      add("rows", at::kLong, {});
      add("output_sum", dtype, {layer.out});
      add("output_square_sum", dtype, {layer.out});
    }
    if (!asked(StatisticKind::kSquaredGradient) && !asked(StatisticKind::kGradientGram)) continue;
    for (const std::string& name : {layer.weight, layer.bias}) {
      if (name.empty() || entangled.contains(name)) continue;
      const auto& shape = shape_of(header, name);
      const bool fits =
          name == layer.weight ? weight_fits(layer, shape) : elements(shape) >= layer.row_begin + layer.out;
      require_fit(fits, layer, name, shape);
      if (asked(StatisticKind::kSquaredGradient))
        table.emplace(name + "/squared_gradient", SumInfo{{dtype, shape}, name, layer.name});
      const int64_t size = elements(shape);
      if (asked(StatisticKind::kGradientGram) && is_vector(layer, name, shape) && size <= header.vector_limit)
        table.emplace(name + "/gradient_gram", SumInfo{{dtype, {size, size}}, name, layer.name});
    }
  }
  return table;
}

}  // namespace amalgam
