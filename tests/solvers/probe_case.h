#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/model_probe.h"
#include "solvers/merge_case.h"

namespace amalgam::test {

/// Answers nothing: for tests to override what they ask.
class SilentProbe : public ModelProbe {
 public:
  InputGramSums input_grams(const std::string&, const std::vector<std::string>&, const NamedTensors&,
                            const std::function<void()>&) override {
    TORCH_CHECK(false, "nobody should ask for Gram matrices");
  }
  ProbeScore score(const std::vector<std::string>&, const NamedTensors&, const std::function<void()>&) override {
    TORCH_CHECK(false, "nobody should ask for scores");
  }
  ProbeEntropy entropy(const std::string&, const NamedTensors&, const std::vector<std::string>&, const ProbeBatch&,
                       const std::function<void()>&) override {
    TORCH_CHECK(false, "nobody should ask for entropies");
  }
};

/// Entropy of softmax(tanh(x Wᵀ + b) Hᵀ), W and b shared ("net.0.weight", "net.0.bias", then "net.1.weight" for H).
inline at::Tensor entropy_of(const NamedTensors& model, const at::Tensor& x) {
  const at::Tensor hidden = at::linear(x, model.at("net.0.weight"), model.at("net.0.bias")).tanh();
  const at::Tensor log_p = at::log_softmax(hidden.matmul(model.at("net.1.weight").t()), 1);
  return -(log_p.exp() * log_p).sum(1).mean();
}

/// Entropies of a small network in float64, by autograd.
class EntropyProbe final : public SilentProbe {
 public:
  struct Call {
    std::string task;
    ProbeBatch batch;
  };

  explicit EntropyProbe(std::map<std::string, at::Tensor> inputs) : inputs_(std::move(inputs)) {}

  /// The inputs of a batch: the next ones, from the start again at the end.
  at::Tensor inputs(const std::string& task, const ProbeBatch& batch) const {
    const at::Tensor& all = inputs_.at(task);
    const at::Tensor ids = (at::arange(batch.examples) + static_cast<int64_t>(batch.number) * batch.examples);
    return all.index_select(0, ids.remainder(all.size(0)));
  }

  ProbeEntropy entropy(const std::string& task, const NamedTensors& replaced, const std::vector<std::string>& by,
                       const ProbeBatch& batch, const std::function<void()>& checkpoint) override {
    checkpoint();
    calls.push_back({task, batch});
    const at::AutoGradMode with_gradients(true);
    NamedTensors model = replaced;
    std::vector<at::Tensor> asked;
    for (const std::string& name : by)
      asked.push_back(model[name] = replaced.at(name).detach().clone().requires_grad_());
    const at::Tensor value = entropy_of(model, inputs(task, batch));
    const auto gradients = torch::autograd::grad({value}, asked, {}, std::nullopt, false, /*allow_unused=*/true);
    ProbeEntropy found{value.item<double>(), {}};
    for (size_t i = 0; i < by.size(); ++i)
      found.gradient[by[i]] = gradients[i].defined() ? gradients[i] : at::zeros_like(asked[i]);
    return found;
  }

  std::vector<Call> calls;

 private:
  std::map<std::string, at::Tensor> inputs_;
};

/// Experts of that network, with inputs of each task.
class EntropyCase : public MergeCase {
 public:
  static constexpr int64_t kInputs = 23, kWidth = 4, kHidden = 5, kClasses = 3;

  explicit EntropyCase(const std::vector<std::string>& names) {
    parameter("net.0.weight", {kHidden, kWidth});
    parameter("net.0.bias", {kHidden});
    parameter("net.1.weight", {kClasses, kHidden});
    parameter("scale", {2});
    shapes["running"] = {2};  // a buffer
    draw(names);
    for (const std::string& task : names) inputs[task] = random.normal({kInputs, kWidth});
  }
  void begin() {
    build();
    input.buffers = {"running"};
    probe = std::make_unique<EntropyProbe>(inputs);
    input.probe = probe.get();
  }

  std::map<std::string, at::Tensor> inputs;
  std::unique_ptr<EntropyProbe> probe;
};

}  // namespace amalgam::test
