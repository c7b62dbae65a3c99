#include "solvers/methods/linear.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/patterns.h"
#include "solvers/methods/experts.h"
#include "solvers/methods/pieces.h"

namespace amalgam {
namespace {

const RegisterMethod<Linear> registered("linear", "the weighted sum of the experts, by layer if wanted",
                                        "Wortsman et al. 2022 (model soups); mergekit");

double read_weight(const YAML::Node& node, const std::string& where) {
  double weight = 0.0;
  const bool read = node.IsScalar() && YAML::convert<double>::decode(node, weight);
  require_input(read && std::isfinite(weight), "{}: expected a finite number", where);
  return weight;
}

}  // namespace

TaskWeights TaskWeights::read(const YAML::Node& node, const std::string& where) {
  TaskWeights weights;
  weights.where_ = where;
  if (!node.IsDefined() || node.IsNull()) return weights;
  require_input((node.IsMap() || node.IsSequence()) && node.size() > 0,
                "{}: expected a map from tasks to numbers, or a list of numbers in the tasks' order", where);
  for (const auto& entry : node) {
    const std::string task = node.IsMap() ? entry.first.Scalar() : "";
    const std::string place = task.empty() ? fmt::format("{}[{}]", where, weights.values_.size()) : where + "." + task;
    weights.values_.emplace_back(task, read_weight(node.IsMap() ? entry.second : entry, place));
  }
  return weights;
}

std::vector<double> TaskWeights::resolve(const std::vector<ExpertInput>& experts) const {
  require_input(values_.size() == experts.size(), "{}: {} weights are given, and there are {} tasks: give one each",
                where_, values_.size(), experts.size());
  std::vector<double> resolved(values_.size());
  std::set<size_t> seen;
  for (size_t i = 0; i < values_.size(); ++i) {
    const auto& [task, weight] = values_[i];
    const size_t expert = task.empty() ? i : expert_of_task(experts, task, where_);
    require_input(seen.insert(expert).second, "{}: task '{}' is given twice", where_, task);
    resolved[expert] = weight;
  }
  return resolved;
}

void WeightRule::declare(OptionSet& set) {
  set.text("pattern", pattern, "of the parameters' names");
  set.node("weights", weights, "their weights: a map by task, or a list");
}

MethodRequirements Linear::requirements() const { return {.negative_weights = true}; }

void Linear::declare_options(OptionSet& set) {
  set.node("weights", weights_node_,
           "in the place of the tasks' weights: a map by task, or a list in the tasks' order; may be negative");
  set.sections(
      "by_layer", by_layer_,
      "weights of their own for parameters, [{pattern: 'encoder.*', weights: {…}}]; the first that fits counts");
  set.flag("normalise", normalise_, "divide by the sum of the weights");
}

void Linear::configure(const std::string& where) {
  where_ = where;
  given_ = {TaskWeights::read(weights_node_, where + ".weights")};
  for (size_t i = 0; i < by_layer_.size(); ++i) {
    const std::string place = fmt::format("{}.by_layer[{}]", where, i);
    given_.push_back(TaskWeights::read(by_layer_[i].weights, place + ".weights"));
    require_input(!by_layer_[i].pattern.empty() && !given_.back().empty(), "{}: give `pattern` and `weights`", place);
  }
}

void Linear::check_tasks(const std::vector<ExpertInput>& experts) const {
  for (size_t i = 0; i < given_.size(); ++i) applied(i, experts);
}

std::vector<double> Linear::applied(size_t i, const std::vector<ExpertInput>& experts) const {
  std::vector<double> weights;
  if (!given_[i].empty()) {
    weights = given_[i].resolve(experts);
  } else {
    for (const ExpertInput& expert : experts) weights.push_back(expert.weight);
  }
  if (!normalise_) return weights;
  double sum = 0.0, size = 0.0;
  for (const double weight : weights) {
    sum += weight;
    size += std::abs(weight);
  }
  require_input(std::abs(sum) > 1e-12 * size,
                "{}: the weights {}cannot be divided by their sum, which is 0; give others, or `normalise: false`",
                where_, i == 0 ? "" : fmt::format("of by_layer[{}] ", i - 1));
  for (double& weight : weights) weight /= sum;
  return weights;
}

void Linear::plan(const MergeInput& input) {
  planned_.clear();
  for (size_t i = 0; i < given_.size(); ++i) {
    planned_.push_back(applied(i, input.experts));
    if (i > 0)
      require_matches(fmt::format("{}.by_layer[{}]", where_, i - 1), {by_layer_[i - 1].pattern}, input.parameters);
  }
}

const std::vector<double>& Linear::weights_of(const std::string& name) const {
  for (size_t i = 0; i < by_layer_.size(); ++i)
    if (matches_any({by_layer_[i].pattern}, name)) return planned_[i + 1];
  return planned_.front();
}

at::Tensor Linear::sum_of(const MergeInput& input, const std::string& name, const std::vector<double>& weights) const {
  at::Tensor first, sum;
  for (size_t m = 0; m < weights.size(); ++m) {
    if (weights[m] == 0) continue;
    const at::Tensor tensor = read_parameter(*input.experts[m].tensors, name, input.device);
    if (!first.defined()) {
      first = tensor;
      sum = normalise_ ? first.clone() : first * weights[m];
    } else if (normalise_) {
      sum.add_(tensor - first, weights[m]);  // θ_f + Σ w (θ_m − θ_f): equal experts stay exact
    } else {
      sum.add_(tensor, weights[m]);
    }
  }
  return sum.defined() ? sum : at::zeros_like(read_parameter(*input.experts.front().tensors, name, input.device));
}

std::vector<double> Linear::buffer_weights(const MergeInput&, const std::string& name) const {
  return weights_of(name);
}

at::Tensor Linear::merge_parameter(const MergeInput& input, const std::string& name) {
  const std::vector<double>& weights = weights_of(name);
  return merge_in_pieces(input, name, [&](const MergeInput& piece, int64_t) { return sum_of(piece, name, weights); });
}

}  // namespace amalgam
