#include "stats/collector.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "core/mapped_tensor.h"
#include "stats/gram.h"
#include "stats/moments.h"
#include "stats/rows.h"
#include "stats/squared_gradient.h"
#include "stats/vector_gradient.h"

namespace amalgam {
namespace {

LayerUse in_float64(const LayerUse& use) {
  const auto cast = [](const at::Tensor& x) { return x.defined() && x.is_floating_point() ? x.to(at::kDouble) : x; };
  return {cast(use.input), cast(use.output), cast(use.output_gradient), use.mask};
}

}  // namespace

void CollectorOptions::declare(OptionSet& set) {
  set.choice("dtype", dtype, {"float64", "float32"}, "of the sums, in memory and in the file");
  set.choice("products", products, {"model", "float64"},
             "precision of what is added up: the model's own, or float64 throughout");
  set.integer("temporary_mebibytes", temporary_mebibytes, {1, 1 << 20},
              "how much of a batch's per-example gradients is held at a time");
  set.integer("block_size", block_size, {0, 1e9},
              "wider Gram matrices are kept as blocks of so many columns on their diagonal; 0: all are kept whole");
  set.texts("diagonal", diagonal, "patterns of layers whose Gram matrices are kept as their diagonals only");
  set.integer("vector_limit", vector_limit, {1, StatisticsHeader::kMostVectorLimit},
              "vectors of more elements have no gradient_gram, whose size is the square of theirs");
  set.choice("place", place, {"device", "memory", "file"},
             "where the sums are while they grow: with the model, in the host's memory, or in a mapped file");
}

StatisticsHeader header_of_collection(LayerTable layers, const std::map<std::string, TensorInfo>& parameters,
                                      std::set<StatisticKind> kinds, const CollectorOptions& options) {
  StatisticsHeader header;
  header.dtype = options.dtype;
  header.products = options.products;
  header.kinds = std::move(kinds);
  header.layers = std::move(layers);
  std::set<std::pair<std::string, LayerKind>> known;
  for (const Layer& layer : header.layers.layers) {
    for (const std::string& name : {layer.weight, layer.bias}) {
      if (name.empty()) continue;
      const auto found = parameters.find(name);
      require_input(found != parameters.end(), "layer '{}': the model has no parameter '{}'", layer.name, name);
      header.parameter_shapes[name] = found->second.shape;
    }
    require_input(
        known.emplace(layer.name, layer.kind).second,
        "the layer table holds '{}' ({}) twice, as where a weight is used both as it is and transposed: leave "
        "it out of the statistics by making it private",
        layer.name, name_of(layer.kind));
  }
  if (header.kinds.contains(StatisticKind::kGradientGram)) header.vector_limit = options.vector_limit;
  header.blocks = gram_blocks(header, options.block_size, options.diagonal);
  return header;
}

StatisticsCollector::StatisticsCollector(LayerTable layers, const std::map<std::string, TensorInfo>& parameters,
                                         std::set<StatisticKind> kinds, const CollectorOptions& options)
    : header_(header_of_collection(std::move(layers), parameters, std::move(kinds), options)),
      options_(options),
      limit_bytes_(options.temporary_mebibytes << 20),
      table_(sum_table(header_)),
      tied_(tied_weights(header_.layers)) {
  for (const Layer& layer : header_.layers.layers)
    states_.emplace(LayerKey{layer.name, layer.kind},
                    LayerState{.layer = &layer, .gram_owner = input_gram_owner(header_.layers, layer)});
}

ObserverNeeds StatisticsCollector::needs() const {
  const auto asked = [&](StatisticKind kind) { return header_.kinds.contains(kind); };
  return {.gradients = asked(StatisticKind::kOutputGram) || asked(StatisticKind::kReducedOutputGram) ||
                       asked(StatisticKind::kSquaredGradient) || asked(StatisticKind::kGradientGram),
          .outputs = asked(StatisticKind::kMoments)};
}

int64_t StatisticsCollector::block_of(const std::string& name) const {
  const auto found = header_.blocks.find(name);
  return found == header_.blocks.end() ? 0 : found->second;
}

at::Tensor& StatisticsCollector::sum(const std::string& name, at::Device device) {
  at::Tensor& tensor = sums_[name];
  if (tensor.defined()) return tensor;
  const TensorInfo& info = table_.at(name).tensor;
  if (options_.place == "file") {
    tensor = mapped_zeros(options_.folder, info);
  } else {
    tensor = at::zeros(info.shape, at::dtype(info.dtype).device(options_.place == "memory" ? at::kCPU : device));
  }
  return tensor;
}

template <class Add>
void StatisticsCollector::add_to(const std::string& name, at::Device device, Add add) {
  at::Tensor& total = sum(name, device);
  if (total.device() == device) return add(total);
  at::Tensor part = at::zeros(total.sizes(), total.options().device(device));
  add(part);
  total.add_(part.to(total.device()));
}

void StatisticsCollector::observe(const LayerObservation& observation) {
  const at::NoGradGuard no_grad;
  const auto found = states_.find({observation.layer.name, observation.layer.kind});
  if (found == states_.end()) return;
  LayerState& state = found->second;
  for (const LayerUse& use : observation.uses) check_use(*state.layer, use);
  if (!seen_.insert(&state).second) {  // a further pass
    add_slices();
    seen_ = {&state};
  }
  std::vector<LayerUse> uses = observation.uses;
  if (options_.products == "float64") std::transform(uses.begin(), uses.end(), uses.begin(), in_float64);
  if (!observation.repeated) add_inputs_and_outputs(state, uses);
  if (needs().gradients) add_gradients(state, uses);
}

void StatisticsCollector::add_inputs_and_outputs(LayerState& state, const std::vector<LayerUse>& uses) {
  const Layer& layer = *state.layer;
  const bool grams = has_rows(layer), owns_gram = grams && state.gram_owner == layer.name;
  state.observed = true;
  if (!grams && !has_moments(layer)) return;
  const auto name = [&](const char* sum) { return layer.name + "/" + sum; };
  const at::Device device = uses[0].input.device();
  for (const LayerUse& use : uses) {
    state.positions += examples_of(use) * positions_of(layer, use);
    if (collects(name("rows")))
      add_to(name("rows"), device, [&](at::Tensor& rows) { add_row_count(layer, use, rows); });
    if (owns_gram && collects(name("input_gram")))
      add_to(name("input_gram"), device, [&](at::Tensor& gram) {
        add_to(name("input_sum"), device, [&](at::Tensor& total) {
          add_input_gram(layer, use, gram, total, limit_bytes_, block_of(name("input_gram")));
        });
      });
    if (!collects(name("output_sum"))) continue;
    TORCH_CHECK(use.output.defined(), "layer '", layer.name, "': moments need the output, and there is none");
    add_to(name("output_sum"), device, [&](at::Tensor& total) {
      add_to(name("output_square_sum"), device,
             [&](at::Tensor& squares) { add_moments(layer, use, total, squares, limit_bytes_); });
    });
  }
  if (collects(name("reduced_rows")))
    add_to(name("reduced_rows"), device, [&](at::Tensor& rows) { add_reduced_row_count(layer, uses, rows); });
  if (owns_gram && collects(name("reduced_input_gram")))
    add_to(name("reduced_input_gram"), device, [&](at::Tensor& gram) {
      add_to(name("reduced_input_sum"), device, [&](at::Tensor& total) {
        add_reduced_input_gram(layer, uses, gram, total, limit_bytes_, block_of(name("reduced_input_gram")));
      });
    });
}

void StatisticsCollector::add_gradients(LayerState& state, const std::vector<LayerUse>& uses) {
  const Layer& layer = *state.layer;
  const bool reached = std::any_of(uses.begin(), uses.end(), [](const LayerUse& use) {
    return use.output_gradient.defined();  // else the loss does not depend on this use
  });
  if (!reached) return;
  state.has_gradient = true;
  const at::Device device = uses[0].input.defined() ? uses[0].input.device() : uses[0].output_gradient.device();
  const std::string gram_name = layer.name + "/output_gram", reduced_name = layer.name + "/reduced_output_gram";
  if (has_rows(layer) && collects(gram_name))
    for (const LayerUse& use : uses)
      if (use.output_gradient.defined())
        add_to(gram_name, device,
               [&](at::Tensor& gram) { add_output_gram(layer, use, gram, limit_bytes_, block_of(gram_name)); });
  if (has_rows(layer) && collects(reduced_name))
    add_to(reduced_name, device,
           [&](at::Tensor& gram) { add_reduced_output_gram(layer, uses, gram, limit_bytes_, block_of(reduced_name)); });
  if (!layer.weight.empty()) add_weight_gradients(layer, uses, device);
  if (const std::string name = layer.bias + "/squared_gradient"; !layer.bias.empty() && collects(name))
    add_to(name, device, [&](at::Tensor& squared) { add_squared_bias_gradient(layer, uses, squared); });
  add_vector_gradients(layer, uses, device);
}

void StatisticsCollector::add_vector_gradients(const Layer& layer, const std::vector<LayerUse>& uses,
                                               at::Device device) {
  for (const std::string& parameter : {layer.weight, layer.bias}) {
    const std::string name = parameter + "/gradient_gram";
    if (parameter.empty() || !collects(name)) continue;
    const at::Tensor gradients = parameter == layer.weight ? weight_vector_gradients(layer, uses, limit_bytes_)
                                                           : bias_gradients(uses);  // [N, out]
    const int64_t size = table_.at(name).tensor.shape[0];
    if (layer.out == size) {
      add_to(name, device, [&](at::Tensor& gram) { add_gram(gradients.unsqueeze(0), gram, 0); });
      continue;
    }
    at::Tensor& whole = slices_[name];
    if (!whole.defined()) whole = at::zeros({gradients.size(0), size}, gradients.options());
    whole.narrow(1, layer.row_begin, layer.out).add_(gradients);
  }
}

void StatisticsCollector::add_slices() {
  for (const auto& entry : slices_)
    add_to(entry.first, entry.second.device(), [&](at::Tensor& gram) { add_gram(entry.second.unsqueeze(0), gram, 0); });
  slices_.clear();
}

void StatisticsCollector::add_weight_gradients(const Layer& layer, const std::vector<LayerUse>& uses,
                                               at::Device device) {
  const std::string name = layer.weight + "/squared_gradient";
  if (!collects(name)) return;
  if (!tied_.contains(layer.weight)) {
    add_to(name, device, [&](at::Tensor& squared) { add_squared_weight_gradient(layer, uses, squared, limit_bytes_); });
    return;
  }
  Held& held = held_[layer.weight];
  if (held.layer == nullptr || held.layer == &layer) {
    if (held.layer == &layer) add_held(layer.weight);  // the other one had no part in that pass
    held_[layer.weight] = {&layer, uses};
    return;
  }
  const bool is_head = layer.kind == LayerKind::kLinear;
  add_to(name, device, [&](at::Tensor& squared) {
    add_squared_tied_gradient(is_head ? *held.layer : layer, is_head ? held.uses : uses, is_head ? layer : *held.layer,
                              is_head ? uses : held.uses, squared, limit_bytes_);
  });
  held_.erase(layer.weight);
}

void StatisticsCollector::add_held(const std::string& weight) {
  const Held held = std::move(held_.at(weight));
  held_.erase(weight);
  add_to(weight + "/squared_gradient", held.uses[0].input.device(),
         [&](at::Tensor& squared) { add_squared_weight_gradient(*held.layer, held.uses, squared, limit_bytes_); });
}

void StatisticsCollector::end_batch(int64_t examples) {
  const at::NoGradGuard no_grad;
  while (!held_.empty()) add_held(std::string(held_.begin()->first));
  add_slices();
  seen_.clear();
  examples_ += examples;
  for (const auto& [key, state] : states_) {
    if (!has_rows(*state.layer) || state.gram_owner == key.first) continue;
    const int64_t owner_positions = states_.at({state.gram_owner, key.second}).positions;
    TORCH_CHECK(state.positions == owner_positions, "layers '", key.first, "' and '", state.gram_owner,
                "' are said to be fed the same tensor, but saw ", state.positions, " and ", owner_positions, " rows");
  }
}

}  // namespace amalgam
