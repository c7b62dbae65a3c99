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

/// Whether one is an embedding and the other a linear layer of the same whole weight, as in language models.
bool is_tied_pair(const Layer& a, const Layer& b) {
  const bool in_order = a.kind == LayerKind::kEmbedding;
  const Layer &embedding = in_order ? a : b, &linear = in_order ? b : a;
  return embedding.kind == LayerKind::kEmbedding && linear.kind == LayerKind::kLinear && !linear.transposed &&
         linear.out == embedding.in;
}

/// Weights and biases that two layers have rows of in common: their per-example gradients would have to be summed
/// before they are squared.
void refuse_shared(const std::vector<Candidate>& candidates, Reasons& reasons) {
  for (size_t i = 0; i < candidates.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const Layer &first = candidates[j].layer, &second = candidates[i].layer;
      const bool same_kind = first.kind == second.kind;
      if (same_kind && (first.row_end <= second.row_begin || second.row_end <= first.row_begin)) continue;
      if (!first.weight.empty() && first.weight == second.weight && !is_tied_pair(first, second))
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

bool is_same_call(const LayerCall& a, const LayerCall& b) {
  const auto shape = [](const at::Tensor& input) {
    return input.defined() ? input.sizes().vec() : std::vector<int64_t>();
  };
  return is_same_layer(a.layer, b.layer) && shape(a.input) == shape(b.input) && a.output_shape == b.output_shape;
}

/// Whether the model makes the same calls of the table's layers where no gradient can be asked for.
/// @param calls  that it makes where they can, of all layers
bool runs_alike_without_graph(ModelRunner& runner, const Batch& batch, std::vector<LayerCall> calls,
                              const LayerTable& table) {
  TapSession session(runner.parameters(), {}, {.build_graph = false, .only = &table});
  session.run([&] { return runner.forward(batch); });
  for (const Layer& layer : table.layers)
    for (const std::string& parameter : {layer.weight, layer.bias})
      if (session.not_understood().contains(parameter)) return false;
  std::erase_if(calls, [&](const LayerCall& call) {
    return std::none_of(table.layers.begin(), table.layers.end(), [&](const Layer& layer) {
      return layer.name == call.layer.name && layer.kind == call.layer.kind;
    });
  });
  return std::equal(calls.begin(), calls.end(), session.calls().begin(), session.calls().end(), is_same_call);
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

/// The layers of a run, where each has its examples, and why what is missing is missing.
struct Findings {
  std::vector<Candidate> candidates;
  Reasons reasons;
};

/// @param gradients  [examples][calls]
Findings find_layers(TapSession& session, const std::vector<std::vector<at::Tensor>>& gradients) {
  Findings found{group_calls(session.calls()), {}};
  for (const auto& [parameter, operators] : session.not_understood())
    found.reasons.emplace(parameter, reason_of(operators));
  refuse_shared(found.candidates, found.reasons);
  for (Candidate& candidate : found.candidates) {
    const std::string why = find_layout(candidate, session.calls(), gradients);
    const Layer& layer = candidate.layer;
    if (!why.empty()) found.reasons.emplace(layer.kind == LayerKind::kBias ? layer.bias : layer.weight, why);
  }
  drop_refused(found.candidates, found.reasons);
  find_shared_inputs(found.candidates, session.calls());
  return found;
}

/// Taps one run, and the gradients of each example's loss.
/// @param calls  receives those of the run
Findings probe(ModelRunner& runner, const Batch& batch, const LossSpec& loss, std::vector<LayerCall>& calls) {
  TapSession session(runner.parameters(), {.gradients = true});
  const auto run = [&](const Batch& some) { return session.run([&] { return runner.forward(some); }); };
  require_separate_examples(run, batch, loss);
  const at::Tensor output = run(batch);
  const at::Tensor losses = example_losses(loss, output, batch.target);  // [examples]
  std::vector<std::vector<at::Tensor>> gradients;
  for (int64_t k = 0; k < batch.count; ++k) gradients.push_back(session.gradients(losses[k], k + 1 < batch.count));
  Findings found = find_layers(session, gradients);
  calls = std::move(session.calls());
  return found;
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
  std::vector<LayerCall> calls;
  Findings found = probe(runner, batch, loss, calls);

  ScanResult result;
  result.unobserved = unobserved_parameters(runner.parameter_names(), found.candidates, found.reasons);
  require_input(!found.candidates.empty(),
                "no layer of the model can be observed ({}); collect nothing from it, or export it "
                "from code that uses linear layers, convolutions, embeddings or norms",
                fmt::join(result.unobserved, "; "));
  for (Candidate& candidate : found.candidates) {
    result.layers.layers.push_back(std::move(candidate.layer));
    result.layouts.push_back(candidate.layout);
  }
  result.layers.aliases = runner.aliases();
  result.needs_graph = !runs_alike_without_graph(runner, batch, std::move(calls), result.layers);
  return result;
}

}  // namespace amalgam
