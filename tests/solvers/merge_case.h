#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/progress.h"
#include "solvers/merge.h"
#include "solvers/random_matrices.h"

namespace amalgam::test {

/// A layer with the fields that merging reads.
inline Layer linear(const std::string& name, int64_t out, int64_t in, bool bias) {
  Layer layer;
  layer.name = layer.input_of = name;
  layer.weight = name + ".weight";
  if (bias) layer.bias = name + ".bias";
  layer.out = layer.row_end = out;
  layer.in = in;
  return layer;
}

inline Layer convolution(const std::string& name, int64_t out, int64_t channels_of_group, int64_t kernel,
                         int64_t groups, bool bias) {
  Layer layer = linear(name, out, channels_of_group * kernel * kernel, bias);
  layer.kind = LayerKind::kConvolution;
  layer.groups = groups;
  layer.kernel = {kernel, kernel};
  return layer;
}

/// What one task's data showed of one layer: from it the statistics are summed, and a test's reference is computed.
struct LayerData {
  at::Tensor inputs;     // [groups, rows, in]
  at::Tensor gradients;  // [groups, rows, out/groups]
};

/// A small model, its experts and their statistics, all random and float64 unless said otherwise; owns what `input`
/// borrows.
class MergeCase {
 public:
  static constexpr int64_t kExamples = 20, kRows = 37;

  explicit MergeCase(uint64_t seed = 1) : random(seed) {}

  /// Adds a layer and parameters of its own.
  void add(const Layer& layer) {
    parameter(layer.weight, layer.kind == LayerKind::kConvolution
                                ? std::vector<int64_t>{layer.out, layer.in / (layer.kernel[0] * layer.kernel[1]),
                                                       layer.kernel[0], layer.kernel[1]}
                            : layer.transposed ? std::vector<int64_t>{layer.in, layer.out}
                                               : std::vector<int64_t>{layer.out, layer.in});
    if (!layer.bias.empty()) parameter(layer.bias, {layer.out});
    layers.layers.push_back(layer);
  }
  void parameter(const std::string& name, const std::vector<int64_t>& shape) {
    parameters.push_back(name);
    shapes[name] = shape;
  }

  /// Draws base, experts and data for these tasks. May be changed before `build`.
  void draw(const std::vector<std::string>& names) {
    for (const auto& [name, shape] : shapes) base[name] = random.normal(shape);
    for (const std::string& task : names) {
      tasks.push_back(task);
      weights.push_back(1.0);
      NamedTensors& expert = experts.emplace_back();
      for (const auto& [name, tensor] : base) expert[name] = tensor + 0.1 * random.normal(tensor.sizes());
      auto& layer_data = data.emplace_back();
      for (const Layer& layer : layers.layers)
        layer_data[layer.name] = {random.normal({layer.groups, kRows, layer.in}),
                                  random.normal({layer.groups, kRows, layer.out / layer.groups})};
      NamedTensors& squares = squared_gradients.emplace_back();
      for (const auto& [name, tensor] : base) squares[name] = random.normal(tensor.sizes()).square() * kExamples;
    }
  }

  /// Gradient Gram matrices of `rank` examples for every parameter of one axis; after `draw`. The diagonals become the
  /// squared gradients.
  void draw_gradient_grams(int64_t rank) {
    kinds.insert(StatisticKind::kGradientGram);
    for (size_t m = 0; m < tasks.size(); ++m) {
      NamedTensors& grams = gradient_grams.emplace_back();
      for (const auto& [name, shape] : shapes) {
        if (shape.size() != 1) continue;
        const at::Tensor gradients = random.normal({rank, shape[0]});
        grams[name] = gradients.t().mm(gradients);
        squared_gradients[m][name] = grams[name].diagonal().clone();
      }
    }
  }

  /// Base and experts in another dtype, rounded; after `draw`.
  void store_as(at::ScalarType dtype) {
    for (auto& [name, tensor] : base) tensor = tensor.to(dtype);
    for (NamedTensors& expert : experts)
      for (auto& [name, tensor] : expert) tensor = tensor.to(dtype);
  }

  MergeInput& build() {
    for (size_t m = 0; m < tasks.size(); ++m) {
      expert_sources.push_back(std::make_unique<MemoryTensors>(experts[m]));
      statistics.push_back(std::make_unique<Statistics>(header(tasks[m]), sums(m)));
      input.experts.push_back({tasks[m], weights[m], expert_sources.back().get(), statistics.back().get()});
    }
    base_source = std::make_unique<MemoryTensors>(base);
    input.base = base_source.get();
    input.parameters = parameters;
    input.layers = layers;
    return input;
  }

  /// Merges with a method of a recipe's entry: "average", "{method: mats, damping: 0}".
  MergeOutcome merge(const std::string& entry) {
    const auto method = make_method(YAML::Load(entry), "merge");
    SilentProgress progress;
    return amalgam::merge(*method, input, progress);
  }

  // --- Naive references
  // -------------------------------------------------------------------------------------------------

  const Layer& layer(const std::string& name) const { return *layers.find(name); }
  /// A = mean over rows of a aᵀ, with a last component 1 where there is a bias: [n, n].
  at::Tensor a_of(size_t m, const std::string& name, int64_t group = 0) const {
    at::Tensor a = data[m].at(name).inputs[group];
    if (!layer(name).bias.empty()) a = at::cat({a, at::ones({a.size(0), 1}, at::kDouble)}, 1);
    return a.t().mm(a) / a.size(0);
  }
  /// B = Σ g gᵀ over rows, by examples.
  at::Tensor b_of(size_t m, const std::string& name, int64_t group = 0) const {
    const at::Tensor g = data[m].at(name).gradients[group];
    return g.t().mm(g) / kExamples;
  }
  /// [weight | bias] of a plain linear layer.
  static at::Tensor matrix(const NamedTensors& tensors, const std::string& name) {
    const at::Tensor weight = tensors.at(name + ".weight").flatten(1);
    if (!tensors.contains(name + ".bias")) return weight;
    return at::cat({weight, tensors.at(name + ".bias").unsqueeze(1)}, 1);
  }

  RandomMatrices random;
  LayerTable layers;
  std::vector<std::string> parameters, tasks;
  std::vector<double> weights;
  std::map<std::string, std::vector<int64_t>> shapes;
  NamedTensors base;
  std::vector<NamedTensors> experts, squared_gradients, gradient_grams;  // sums over examples; the last may be empty
  std::vector<std::map<std::string, LayerData>> data;
  std::set<StatisticKind> kinds{StatisticKind::kInputGram, StatisticKind::kOutputGram, StatisticKind::kSquaredGradient};
  std::set<std::string> left_out;                       // names of sums that the statistics lack
  std::map<size_t, std::set<std::string>> left_out_of;  // that the statistics of one task lack
  std::map<size_t, NamedTensors> replaced;              // sums of one task's statistics, in the place of what is drawn
  MergeInput input;

 private:
  StatisticsHeader header(const std::string& task) const {
    StatisticsHeader result;
    result.task = task;
    result.label_mode = "true";
    result.ranges = {{0, kExamples}};
    result.dtype = "float64";
    result.expert_digest = "digest of " + task;
    result.kinds = kinds;
    result.layers = layers;
    return result;
  }

  std::shared_ptr<const TensorSource> sums(size_t m) const {
    NamedTensors result;
    for (const auto& [name, shown] : data[m]) {
      const bool one_group = layer(name).groups == 1;
      const auto plain = [&](const at::Tensor& x) { return one_group ? x[0].clone() : x; };
      result[name + "/input_gram"] = plain(shown.inputs.transpose(1, 2).bmm(shown.inputs));
      result[name + "/input_sum"] = plain(shown.inputs.sum(1));
      result[name + "/output_gram"] = plain(shown.gradients.transpose(1, 2).bmm(shown.gradients));
      result[name + "/rows"] = at::scalar_tensor(shown.inputs.size(1), at::kLong);
    }
    for (const auto& [name, sum] : squared_gradients[m]) result[name + "/squared_gradient"] = sum;
    if (!gradient_grams.empty())
      for (const auto& [name, sum] : gradient_grams[m]) result[name + "/gradient_gram"] = sum;
    if (const auto own = replaced.find(m); own != replaced.end())
      for (const auto& [name, sum] : own->second) result[name] = sum;
    for (const std::string& name : left_out) result.erase(name);
    if (const auto own = left_out_of.find(m); own != left_out_of.end())
      for (const std::string& name : own->second) result.erase(name);
    return std::make_shared<MemoryTensors>(std::move(result));
  }

  std::unique_ptr<MemoryTensors> base_source;
  std::vector<std::unique_ptr<MemoryTensors>> expert_sources;
  std::vector<std::unique_ptr<Statistics>> statistics;
};

}  // namespace amalgam::test
