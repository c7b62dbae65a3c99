#include "solvers/methods/adamerging.h"

#include <fmt/format.h>

#include <numeric>

#include "core/error.h"
#include "solvers/search/adam.h"

namespace amalgam {
namespace {

const RegisterMethod<AdaMerging> registered(
    "adamerging", "coefficients by parameter or task that make predictions on unlabelled inputs sure",
    "Yang et al. 2024 (AdaMerging)");

struct DescentOptions {
  int64_t steps = 0, batch = 0, patience = 0;
  double rate = 0.0;
  bool clamp = false;
  std::string split;
};

/// Adam on the mean entropy.
class EntropyDescent final : public CoefficientSearch {
 public:
  EntropyDescent(const MergeInput& input, const TaskVectorSum& vectors, const at::Tensor& start, DescentOptions options)
      : input_(input), vectors_(vectors), options_(std::move(options)), raw_(start.clone()) {
    for (const ExpertInput& expert : input.experts)
      if (expert.weight > 0) tasks_.push_back(expert.task);
  }

  bool is_done() const override { return steps_done() >= options_.steps || no_longer_falls(); }
  int64_t steps_done() const override { return static_cast<int64_t>(curve_.size()); }
  int64_t most_steps() const override { return options_.steps; }
  std::string note() const override { return curve_.empty() ? "" : fmt::format("entropy {:.4f}", curve_.back()); }

  void step(const Checkpoint& checkpoint) override {
    const NamedTensors model = vectors_.model(coefficients());
    at::Tensor slopes = at::zeros_like(raw_);
    double entropy = 0;
    for (const std::string& task : tasks_) {
      const ProbeEntropy found = input_.probe->entropy(
          task, model, vectors_.parameters(),
          {options_.split, options_.batch, static_cast<uint64_t>(steps_done()), input_.seed}, checkpoint);
      slopes += vectors_.slopes(found.gradient) / static_cast<double>(tasks_.size());
      entropy += found.value / static_cast<double>(tasks_.size());
    }
    if (options_.clamp) slopes.masked_fill_(raw_.lt(0).logical_or(raw_.gt(1)), 0);
    adam_step(raw_, slopes, options_.rate, adam_);
    curve_.push_back(entropy);
  }

  at::Tensor coefficients() const override { return options_.clamp ? raw_.clamp(0, 1) : raw_; }

  SearchReport report() const override {
    SearchReport report;
    report.measure = "entropy on " + options_.split;
    report.unit = "steps";
    for (size_t i = 0; i < curve_.size(); ++i) report.curve.push_back({static_cast<int64_t>(i), curve_[i]});
    report.why = steps_done() < options_.steps ? fmt::format("the mean of {} steps was not below that of {} before",
                                                             options_.patience, options_.patience)
                                               : "a fixed number of steps, as published";
    return report;
  }

  NamedTensors state() const override {
    NamedTensors state = {{"coefficients", raw_}, {"entropies", at::tensor(curve_, at::kDouble)}};
    if (adam_.steps > 0) {
      state["mean"] = adam_.mean;
      state["square"] = adam_.square;
    }
    return state;
  }

  void resume(const NamedTensors& state) override {
    const auto curve = state.find("entropies");
    require_input(curve != state.end() && curve->second.dim() == 1 && curve->second.scalar_type() == at::kDouble,
                  "the state of the search has no entropies");
    const auto fitting = [&](const char* name) {
      const auto found = state.find(name);
      require_input(
          found != state.end() && found->second.sizes() == raw_.sizes() && found->second.scalar_type() == at::kDouble,
          "the state of the search has no '{}' of this one's sizes", name);
      return found->second.clone();
    };
    const int64_t steps = curve->second.size(0);
    const at::Tensor raw = fitting("coefficients");
    if (steps > 0) adam_ = {fitting("mean"), fitting("square"), steps};
    raw_ = raw;
    const at::Tensor values = curve->second.contiguous();
    curve_.assign(values.const_data_ptr<double>(), values.const_data_ptr<double>() + steps);
  }

 private:
  bool no_longer_falls() const {
    const auto window = static_cast<std::ptrdiff_t>(options_.patience);
    if (window == 0 || std::ssize(curve_) < 2 * window) return false;
    return std::accumulate(curve_.end() - window, curve_.end(), 0.0) >=
           std::accumulate(curve_.end() - 2 * window, curve_.end() - window, 0.0);
  }

  const MergeInput& input_;
  const TaskVectorSum& vectors_;
  DescentOptions options_;
  std::vector<std::string> tasks_;
  at::Tensor raw_;  // coefficients before they are clamped
  AdamState adam_;
  std::vector<double> curve_;
};

}  // namespace

MethodRequirements AdaMerging::requirements() const { return {.base = true, .entropy_split = split_}; }

void AdaMerging::declare_options(OptionSet& set) {
  CoefficientMethod::declare_options(set);
  set.integer("steps", steps_, {0, 1e9}, "of Adam");
  set.real("rate", rate_, {0, 1}, "of Adam: about how far a coefficient moves in a step");
  set.integer("batch", batch_, {1, 1e9}, "inputs of each task a step");
  set.choice("split", split_, {"val", "test", "train"}, "whose inputs; labels are not looked at. The paper's: test");
  set.flag("clamp", clamp_, "coefficients stay within 0 and 1, as in the authors' code");
  set.integer("patience", patience_, {0, 1e9},
              "ends when the mean entropy of so many steps is not below that of as many before; 0: never");
}

std::unique_ptr<CoefficientSearch> AdaMerging::begin(const MergeInput& input, const TaskVectorSum& vectors,
                                                     const at::Tensor& start) const {
  return std::make_unique<EntropyDescent>(input, vectors, start,
                                          DescentOptions{steps_, batch_, patience_, rate_, clamp_, split_});
}

}  // namespace amalgam
