#include "solvers/search/entropy_descent.h"

#include <fmt/format.h>

#include <numeric>

#include "core/error.h"

namespace amalgam {

void DescentOptions::declare(OptionSet& set, const std::string& moving) {
  set.integer("steps", steps, {0, 1e9}, "of Adam");
  set.real("rate", rate, {0, 1}, fmt::format("of Adam: about how far {} moves in a step", moving));
  set.integer("batch", batch, {1, 1e9}, "inputs of each task a step");
  set.choice("split", split, {"val", "test", "train"}, "whose inputs; labels are not looked at. The paper's: test");
  set.integer("patience", patience, {0, 1e9},
              "ends when the mean entropy of so many steps is not below that of as many before; 0: never");
}

EntropyDescent::EntropyDescent(const MergeInput& input, DescentOptions options)
    : input_(&input), options_(std::move(options)) {
  for (const ExpertInput& expert : input.experts)
    if (expert.weight > 0) tasks_.push_back(expert.task);
}

std::string EntropyDescent::note() const { return curve_.empty() ? "" : fmt::format("entropy {:.4f}", curve_.back()); }

SearchReport EntropyDescent::report() const {
  SearchReport report;
  report.measure = "entropy on " + options_.split;
  report.unit = "steps";
  for (size_t i = 0; i < curve_.size(); ++i) report.curve.push_back({static_cast<int64_t>(i), curve_[i]});
  report.why = steps() < options_.steps ? fmt::format("the mean of {} steps was not below that of {} before",
                                                      options_.patience, options_.patience)
                                        : "a fixed number of steps, as published";
  return report;
}

NamedTensors EntropyDescent::next_gradient(const NamedTensors& model, const std::vector<std::string>& parameters,
                                           const Checkpoint& checkpoint) {
  const auto count = static_cast<double>(tasks_.size());
  NamedTensors gradient;
  double entropy = 0;
  for (const std::string& task : tasks_) {
    const ProbeEntropy found = input_->probe->entropy(
        task, model, parameters, {options_.split, options_.batch, static_cast<uint64_t>(steps()), input_->seed},
        checkpoint);
    entropy += found.value / count;
    for (const auto& [name, slope] : found.gradient) {
      const at::Tensor own = slope.to(slope.scalar_type() == at::kDouble ? at::kDouble : at::kFloat) / count;
      at::Tensor& sum = gradient[name];
      sum.defined() ? sum.add_(own) : sum = own;
    }
  }
  curve_.push_back(entropy);
  return gradient;
}

at::Tensor EntropyDescent::course() const { return at::tensor(curve_, at::kDouble); }

void EntropyDescent::resume(const NamedTensors& state) {
  const auto found = state.find("entropies");
  require_input(found != state.end() && found->second.dim() == 1 && found->second.scalar_type() == at::kDouble,
                "the state of the search has no entropies");
  const at::Tensor values = found->second.contiguous();
  curve_.assign(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.size(0));
}

bool EntropyDescent::no_longer_falls() const {
  const auto window = static_cast<std::ptrdiff_t>(options_.patience);
  if (window == 0 || std::ssize(curve_) < 2 * window) return false;
  return std::accumulate(curve_.end() - window, curve_.end(), 0.0) >=
         std::accumulate(curve_.end() - 2 * window, curve_.end() - window, 0.0);
}

}  // namespace amalgam
