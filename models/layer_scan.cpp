#include "models/layer_scan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "models/example_probe.h"
#include "models/tap_session.h"

namespace amalgam {
namespace {

constexpr int64_t kProbeExamples = 3;

/// A layer that was seen, with its calls.
struct Candidate {
  Layer layer;
  std::vector<size_t> calls;
  ExampleLayout layout;
};

/// Parameter -> why it is not observed.
using Reasons = std::map<std::string, std::string>;

auto geometry_of(const Layer& layer) {
  return std::tie(layer.kind, layer.in, layer.groups, layer.kernel, layer.stride, layer.padding, layer.dilation);
}

bool is_same_layer(const Layer& a, const Layer& b) {
  return geometry_of(a) == geometry_of(b) &&
         std::tie(a.name, a.weight, a.bias, a.row_begin, a.row_end, a.transposed, a.out) ==
             std::tie(b.name, b.weight, b.bias, b.row_begin, b.row_end, b.transposed, b.out);
}

std::vector<Candidate> group_calls(const std::vector<LayerCall>& calls) {
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < calls.size(); ++i) {
    auto found = std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& candidate) {
      return is_same_layer(candidate.layer, calls[i].layer);
    });
    if (found == candidates.end()) found = candidates.insert(found, {calls[i].layer, {}, {}});
    found->calls.push_back(i);
  }
  return candidates;
}

std::string reason_of(const std::set<std::string>& operators) {
  std::string reason = fmt::format("used by {}, which is not observed", fmt::join(operators, ", "));
  const bool fused = operators.contains("aten::_native_multi_head_attention") ||
                     operators.contains("aten::_transformer_encoder_layer_fwd");
  if (fused) reason += "; trace the model with gradients enabled, so that attention is not fused";
  return reason;
}

/// Weights and biases that two layers have rows of in common: their per-example gradients would have to be summed
/// before they are squared.
void refuse_shared(const std::vector<Candidate>& candidates, Reasons& reasons) {
  for (size_t i = 0; i < candidates.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const Layer &first = candidates[j].layer, &second = candidates[i].layer;
      if (first.row_end <= second.row_begin || second.row_end <= first.row_begin) continue;
      if (!first.weight.empty() && first.weight == second.weight)
        reasons.emplace(first.weight, fmt::format("used in two different ways, as {} '{}' and as {} '{}'",
                                                  name_of(first.kind), first.name, name_of(second.kind), second.name));
      if (!first.bias.empty() && first.bias == second.bias)
        reasons.emplace(first.bias, fmt::format("added in two layers, '{}' and '{}'", first.name, second.name));
    }
}

/// @param gradients  [examples][calls]
/// @return why the layer cannot be observed; empty where its layout was found
std::string find_layout(Candidate& candidate, const std::vector<LayerCall>& calls,
                        const std::vector<std::vector<at::Tensor>>& gradients) {
  std::optional<std::vector<ExampleLayout>> common;
  for (const size_t index : candidate.calls) {
    std::vector<at::Tensor> by_example;
    for (const auto& of_example : gradients) by_example.push_back(of_example[index]);
    const auto fitting = fitting_layouts(calls[index], by_example);
    if (!fitting) continue;
    if (!common) common = fitting;
    std::erase_if(*common, [&](const ExampleLayout& layout) {
      return std::find(fitting->begin(), fitting->end(), layout) == fitting->end();
    });
  }
  if (!common) return "the loss does not depend on its layer";
  if (common->empty())
    return "its layer mixes examples: the loss of one reaches rows of others, or one row serves them all";
  if (common->size() > 1) return "which axis of its layer is the example is ambiguous";
  candidate.layout = common->front();
  return {};
}

/// Takes out the layers whose weight has a reason, and the biases that have one.
void drop_refused(std::vector<Candidate>& candidates, Reasons& reasons) {
  std::erase_if(candidates, [&](const Candidate& candidate) {
    const Layer& layer = candidate.layer;
    const bool refused = reasons.contains(layer.kind == LayerKind::kBias ? layer.bias : layer.weight);
    if (refused && !layer.bias.empty())
      reasons.emplace(layer.bias, fmt::format("its layer '{}' is not observed", layer.name));
    return refused;
  });
  for (Candidate& candidate : candidates)
    if (reasons.contains(candidate.layer.bias)) candidate.layer.bias.clear();
}

bool has_same_input(const Candidate& a, const Candidate& b, const std::vector<LayerCall>& calls) {
  const LayerKind kind = a.layer.kind;
  if (kind != LayerKind::kLinear && kind != LayerKind::kConvolution) return false;
  if (geometry_of(a.layer) != geometry_of(b.layer) || a.layout != b.layout) return false;
  return std::equal(a.calls.begin(), a.calls.end(), b.calls.begin(), b.calls.end(),
                    [&](size_t i, size_t j) { return is_same_view(calls[i].input, calls[j].input); });
}

void find_shared_inputs(std::vector<Candidate>& candidates, const std::vector<LayerCall>& calls) {
  for (auto candidate = candidates.begin(); candidate != candidates.end(); ++candidate)
    candidate->layer.input_of = std::find_if(candidates.begin(), candidate, [&](const Candidate& before) {
                                  return has_same_input(before, *candidate, calls);
                                })->layer.name;
}

std::vector<std::string> unobserved_parameters(const std::vector<std::string>& parameters,
                                               const std::vector<Candidate>& candidates, const Reasons& reasons) {
  std::vector<std::string> unobserved;
  for (const std::string& name : parameters) {
    const bool observed = std::any_of(candidates.begin(), candidates.end(), [&](const Candidate& candidate) {
      return candidate.layer.weight == name || candidate.layer.bias == name;
    });
    const auto reason = reasons.find(name);
    if (!observed)
      unobserved.push_back(name + ": " + (reason == reasons.end() ? "not used in the forward pass" : reason->second));
  }
  return unobserved;
}

}  // namespace

ScanResult scan_layers(ModelRunner& runner, const Batch& examples, const LossSpec& loss) {
  require_input(
      examples.count >= 2,
      "the layers of a model are told apart with at least two examples, and here is {}; give a split with more "
      "examples",
      examples.count);
  const Batch batch = examples.narrow(0, std::min(kProbeExamples, examples.count)).to(runner.device());
  runner.set_training(false);
  TapSession session(runner.parameters(), {.gradients = true});
  const auto run = [&](const Batch& some) { return session.run([&] { return runner.forward(some); }); };
  require_separate_examples(run, batch, loss);
  const at::Tensor output = run(batch);
  const at::Tensor losses = example_losses(loss, output, batch.target);  // [examples]
  std::vector<std::vector<at::Tensor>> gradients;
  for (int64_t k = 0; k < batch.count; ++k) gradients.push_back(session.gradients(losses[k], k + 1 < batch.count));

  Reasons reasons;
  for (const auto& [parameter, operators] : session.not_understood()) reasons.emplace(parameter, reason_of(operators));
  std::vector<Candidate> candidates = group_calls(session.calls());
  refuse_shared(candidates, reasons);
  for (Candidate& candidate : candidates) {
    const std::string why = find_layout(candidate, session.calls(), gradients);
    const Layer& layer = candidate.layer;
    if (!why.empty()) reasons.emplace(layer.kind == LayerKind::kBias ? layer.bias : layer.weight, why);
  }
  drop_refused(candidates, reasons);
  find_shared_inputs(candidates, session.calls());

  ScanResult result;
  result.unobserved = unobserved_parameters(runner.parameter_names(), candidates, reasons);
  require_input(!candidates.empty(),
                "no layer of the model can be observed ({}); collect nothing from it, or export it "
                "from code that uses linear layers, convolutions, embeddings or norms",
                fmt::join(result.unobserved, "; "));
  for (Candidate& candidate : candidates) {
    result.layers.layers.push_back(std::move(candidate.layer));
    result.layouts.push_back(candidate.layout);
  }
  result.layers.aliases = runner.aliases();
  return result;
}

}  // namespace amalgam
