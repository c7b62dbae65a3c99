#include "solvers/grouping.h"

#include <c10/util/accumulate.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace amalgam {
namespace {

constexpr int64_t kShares = 32;                     // of the layers, for up to 16 processes
constexpr int64_t kSmallGroup = int64_t{64} << 20;  // bytes: solved in a second or two

/// Whether two layers are the same rows of a parameter that both name.
bool same_rows(const Layer& a, const Layer& b) {
  const bool sliceable = (b.kind == LayerKind::kLinear || b.kind == LayerKind::kConvolution) && a.kind == b.kind;
  return !sliceable || (a.row_begin < b.row_end && b.row_begin < a.row_end);
}

/// Forms the groups of one method; `why_` says why a parameter, or some rows of it, stay out.
class Grouper {
 public:
  Grouper(const MergeMethod& method, const MergeInput& input)
      : method_(method),
        input_(input),
        requirements_(method.requirements()),
        shared_(input.parameters.begin(), input.parameters.end()) {}

  Grouping by_parameter() {
    Grouping grouping;
    for (const std::string& name : input_.parameters) {
      const std::string why = why_not(name);
      if (why.empty()) {
        grouping.groups.push_back({{name}, {}});
      } else {
        grouping.fallbacks.push_back({name, why});
      }
    }
    return grouping;
  }

  Grouping by_layer() {
    std::vector<LayerMatrix> mergeable;  // in the model's order
    for (const Layer& layer : input_.layers.layers) {
      const std::string why = why_not(layer);
      if (!why.empty()) {
        note(layer.weight, why);
        note(layer.bias, why);
        continue;
      }
      const std::string why_no_bias = layer.bias.empty() ? "it has none" : why_not(layer, layer.bias);
      if (!why_no_bias.empty()) note(layer.bias, why_no_bias);
      const LayerMatrix matrix(layer, why_no_bias.empty());
      if (const std::string why_method = why_not(matrix); !why_method.empty()) {
        note(layer.weight, why_method);
        note(layer.bias, why_method);
        continue;
      }
      mergeable.push_back(matrix);
      merged_elements_[layer.weight] += layer.out * layer.in;
      if (matrix.with_bias()) merged_elements_[layer.bias] += layer.out;
    }
    Grouping grouping;
    const bool in_blocks = !mergeable.empty() && !method_.block_of(mergeable.front().layer()).empty();
    in_blocks ? form_blocks(mergeable, grouping.groups) : group_by_shape(mergeable, grouping.groups);
    for (const std::string& name : input_.parameters) {
      if (!is_lone_vector(name)) {
        add_fallback(name, grouping.fallbacks);
      } else if (const std::string why = why_no_vector(name); why.empty()) {
        grouping.groups.push_back({{name}, {}});
      } else {
        grouping.fallbacks.push_back({name, why});
      }
    }
    return grouping;
  }

 private:
  bool is_floating(const std::string& name) const {
    return at::isFloatingType(input_.experts.front().tensors->infos().at(name).dtype);
  }

  /// Why the method cannot merge a parameter; empty if it can.
  std::string why_not(const std::string& name) const {
    if (!shared_.contains(name)) return "it is not shared by the tasks";
    if (!method_.selects(name)) return "left out by `apply_to` or `except`";
    if (!is_floating(name)) return "it does not hold floating values";
    if (requirements_.statistics.contains(StatisticKind::kSquaredGradient))
      for (const ExpertInput& expert : input_.experts)
        if (!expert.statistics->has_squared_gradient(name))
          return fmt::format("task '{}' has no squared gradient of it", expert.task);
    return "";
  }

  /// Why the method cannot merge a layer's weight or bias with the layer.
  std::string why_not(const Layer& layer, const std::string& parameter) const {
    if (const std::string why = why_not(parameter); !why.empty()) return why;
    for (const Layer& other : input_.layers.layers)
      if (&other != &layer && (other.weight == parameter || other.bias == parameter) && same_rows(layer, other))
        return fmt::format("layers '{}' and '{}' share it", std::min(layer.name, other.name),
                           std::max(layer.name, other.name));
    return "";
  }

  std::string why_not(const Layer& layer) const {
    if (layer.kind != LayerKind::kLinear && layer.kind != LayerKind::kConvolution)
      return fmt::format("it belongs to a layer of kind {}", name_of(layer.kind));
    if (const std::string why = why_not(layer, layer.weight); !why.empty()) return why;
    for (const ExpertInput& expert : input_.experts) {
      if (expert.statistics == nullptr) continue;  // a method that needs some does not come as far as this
      const auto lacks = [&](StatisticKind kind, bool has) { return requirements_.statistics.contains(kind) && !has; };
      if (lacks(StatisticKind::kInputGram, expert.statistics->has_input_gram(layer)) ||
          lacks(StatisticKind::kReducedInputGram, expert.statistics->has_input_gram(layer, KroneckerForm::kReduce)))
        return fmt::format("task '{}' has no input Gram matrix of layer '{}'", expert.task, layer.name);
      if (lacks(StatisticKind::kOutputGram, expert.statistics->has_output_gram(layer)) ||
          lacks(StatisticKind::kReducedOutputGram, expert.statistics->has_output_gram(layer, KroneckerForm::kReduce)))
        return fmt::format("task '{}' has no output gradients of layer '{}'", expert.task, layer.name);
    }
    return "";
  }

  std::string why_not(const LayerMatrix& layer) const {
    for (const ExpertInput& expert : input_.experts)
      if (const std::string why = method_.why_not(expert, layer); !why.empty()) return why;
    return "";
  }

  static bool has_gradient_gram(const ExpertInput& expert, const std::string& name) {
    return expert.statistics->has_gradient_gram(name);
  }

  /// Whether the method could merge it by itself: no layer merges any of it, and some expert has its Gram matrix.
  bool is_lone_vector(const std::string& name) const {
    if (!requirements_.vectors || merged_elements_.contains(name)) return false;
    return std::any_of(input_.experts.begin(), input_.experts.end(),
                       [&](const ExpertInput& expert) { return has_gradient_gram(expert, name); });
  }

  std::string why_no_vector(const std::string& name) const {
    for (const ExpertInput& expert : input_.experts)
      if (!has_gradient_gram(expert, name))
        return fmt::format("task '{}' has no Gram matrix of its gradients", expert.task);
    return why_not(name);
  }

  void note(const std::string& parameter, const std::string& why) {
    if (!parameter.empty()) why_.emplace(parameter, why);
  }

  int64_t bytes(const LayerMatrix& layer) const { return working_bytes(layer, input_.experts.size()); }

  void form_blocks(const std::vector<LayerMatrix>& layers, std::vector<MergeGroup>& groups) const {
    std::map<std::string, size_t> position;
    for (const LayerMatrix& layer : layers) {
      const std::string block = method_.block_of(layer.layer());
      TORCH_CHECK(!block.empty(), "method ", method_.name(), " names no block of layer ", layer.layer().name);
      const auto [found, fresh] = position.emplace(block, groups.size());
      if (fresh) groups.push_back({.parameters = {}, .layers = {}, .block = block});
      groups[found->second].layers.push_back(layer);
    }
  }

  void group_by_shape(const std::vector<LayerMatrix>& layers, std::vector<MergeGroup>& groups) const {
    std::map<std::tuple<int64_t, int64_t, std::string>, std::vector<LayerMatrix>> by_shape;
    for (const LayerMatrix& layer : layers)
      by_shape[{layer.rows(), layer.columns(), method_.batch_key(input_, layer)}].push_back(layer);
    const int64_t most = most_bytes(layers);
    for (const auto& [shape, of_shape] : by_shape) split(of_shape, most, groups);
  }

  /// How large a group may be: `group_bytes`, and no more than a share of all layers, so that several processes find
  /// enough groups; small groups are not split. The number of processes is not looked at: results must not depend on
  /// it.
  int64_t most_bytes(const std::vector<LayerMatrix>& layers) const {
    int64_t all = 0;
    for (const LayerMatrix& layer : layers) all += bytes(layer);
    return std::min(input_.group_bytes, std::max(kSmallGroup, all / kShares));
  }

  void split(const std::vector<LayerMatrix>& layers, int64_t most, std::vector<MergeGroup>& groups) const {
    int64_t filled = 0;
    for (const LayerMatrix& layer : layers) {
      if (filled == 0 || filled + bytes(layer) > most) {
        groups.emplace_back();
        filled = 0;
      }
      groups.back().layers.push_back(layer);
      filled += bytes(layer);
    }
  }

  void add_fallback(const std::string& name, std::vector<Fallback>& fallbacks) const {
    const auto merged = merged_elements_.find(name);
    const int64_t elements = c10::multiply_integers(input_.experts.front().tensors->infos().at(name).shape);
    if (merged != merged_elements_.end() && merged->second == elements) return;
    const auto noted = why_.find(name);
    std::string why = noted != why_.end() ? noted->second : why_not(name);
    if (why.empty()) why = "no layer was seen that uses it";
    fallbacks.push_back({name, why, merged != merged_elements_.end()});
  }

  const MergeMethod& method_;
  const MergeInput& input_;
  const MethodRequirements requirements_;
  const std::set<std::string> shared_;
  std::map<std::string, std::string> why_;          // why a layer leaves a parameter aside
  std::map<std::string, int64_t> merged_elements_;  // how many elements of a parameter layers merge
};

}  // namespace

Grouping form_groups(const MergeMethod& method, const MergeInput& input) {
  Grouper grouper(method, input);
  return method.requirements().layers ? grouper.by_layer() : grouper.by_parameter();
}

int64_t working_bytes(const LayerMatrix& layer, size_t experts) {
  const int64_t rows = layer.rows(), columns = layer.columns();
  return layer.groups() * (static_cast<int64_t>(experts) * (rows * rows + columns * columns) + 10 * rows * columns) *
         static_cast<int64_t>(sizeof(double));
}

}  // namespace amalgam
