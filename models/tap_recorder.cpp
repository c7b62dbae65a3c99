#include "models/tap_recorder.h"

#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>

#include "core/error.h"
#include "models/for_each_tensor.h"

namespace amalgam {
namespace {

bool writes(const c10::FunctionSchema& schema, size_t argument) {
  const auto* alias = schema.arguments()[argument].alias_info();
  return alias != nullptr && alias->isWrite();
}

/// Whether the operator looks only at the shape or the dtype of this argument.
bool takes_no_values(const std::string& name, size_t argument) {
  static const std::set<std::string> like_other = {"aten::to", "aten::type_as", "aten::view_as", "aten::expand_as",
                                                   "aten::reshape_as"};
  return argument > 0 && like_other.contains(name);
}

}  // namespace

thread_local TapRecorder* TapRecorder::active = nullptr;

TapRecorder::TapRecorder(const NamedTensors& parameters, ObserverNeeds needs, const TapOptions& options)
    : tensors_(parameters),
      parameters_(parameters),
      needs_(needs),
      options_(options),
      profiling_(torch::jit::getProfilingMode()) {
  TORCH_CHECK(options.build_graph || !needs.gradients, "there are no gradients without a graph");
  for (const auto& [name, tensor] : parameters)
    TORCH_CHECK(tensor.is_leaf(), "parameter '", name, "' is the result of a computation");
  for (const auto& [name, tensor] : parameters)
    if (options.build_graph && tensor.is_floating_point() && !tensor.requires_grad())
      made_to_require_.push_back(tensor.requires_grad_());
  torch::jit::getProfilingMode() = false;
}

TapRecorder::~TapRecorder() {
  for (const at::Tensor& tensor : made_to_require_) tensor.requires_grad_(false);
  torch::jit::getProfilingMode() = profiling_;
}

void TapRecorder::begin_run() {
  calls.clear();
  sources.clear();
  not_understood.clear();
  batch_norms.clear();
  embeddings_.clear();
  written_.reset();
  for (const auto& [name, tensor] : tensors_)
    if (!tensor.is_inference()) versions_[name] = tensor._version();
}

void TapRecorder::end_run() {
  require_parameters_unchanged();
  embeddings_.settle(calls, sources);
  embeddings_.clear();
}

void TapRecorder::require_parameters_unchanged() const {
  const auto refuse = [](const std::string& parameter, const std::string& by) {
    throw InputError(
        fmt::format("the model writes into its parameter '{}' when it runs{}, so that no two examples see the same "
                    "model; export it without that, or make what it changes a buffer",
                    parameter, by));
  };
  if (written_) refuse(written_->first, " (" + written_->second + ")");
  for (const auto& [name, version] : versions_)
    if (tensors_.at(name)._version() != version) refuse(name, "");
}

/// An operator is about to write into a parameter: the run ends here, before it does. The text of what is thrown here
/// is lost to TorchScript's interpreter.
void TapRecorder::note_written_parameters(const c10::FunctionSchema& schema, const at::Tensor& written) {
  const auto entries = parameters_.overlapping(written);
  if (entries.empty()) return;
  written_.emplace(entries[0]->name, schema.name());
  require_parameters_unchanged();
}

/// Before an operator writes into a tensor whose content we keep, takes a copy; calls that share the tensor share it.
void TapRecorder::preserve(std::vector<LayerCall>& kept_calls, const at::Tensor& written) {
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // what was kept, its copy
  for (LayerCall& call : kept_calls)
    for (at::Tensor* kept : {&call.input, &call.output}) {
      if (!kept->defined() || !kept->is_alias_of(written)) continue;
      auto known =
          std::find_if(copies.begin(), copies.end(), [&](const auto& copy) { return is_same_view(copy.first, *kept); });
      if (known == copies.end()) known = copies.insert(known, {*kept, kept->clone()});
      *kept = known->second;
    }
}

Reading TapRecorder::read(const c10::FunctionSchema& schema, Values arguments) {
  Reading reading = read_operator_call(schema.name(), arguments, parameters_);
  bool detached = false;
  for (const size_t index : reading.understood)
    for_each_tensor(arguments[index], [&](const at::Tensor& taken) {
      detached |= !taken.requires_grad() && !parameters_.overlapping(taken).empty();
    });
  if (detached && at::GradMode::is_enabled() && options_.build_graph) {
    reading = {};
    reading.limit =
        "on a detached copy (the model detaches it, or TorchScript had optimised the model in earlier calls: open it "
        "afresh)";
  }
  for (size_t i = 0; i < arguments.size(); ++i)
    if (writes(schema, i))
      for_each_tensor(arguments[i], [&](const at::Tensor& written) { preserve(reading.calls, written); });
  return reading;
}

/// Notes the parameters that the operator took and that no reading accounts for. An operator that only makes views of
/// them is followed by way of their memory.
void TapRecorder::audit(const c10::FunctionSchema& schema, Values arguments, Values results, const Reading& reading) {
  const std::string& name = schema.name();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& understood = reading.understood;
    if (std::count(understood.begin(), understood.end(), i) > 0 || takes_no_values(name, i)) continue;
    for_each_tensor(arguments[i], [&](const at::Tensor& taken) {
      const auto entries = parameters_.overlapping(taken);
      if (entries.empty()) return;
      bool computes = !reading.limit.empty();
      for (const c10::IValue& result : results)
        for_each_tensor(result, [&](const at::Tensor& made) {
          computes |= (made.requires_grad() || !options_.build_graph) && !made.is_alias_of(taken);
        });
      if (!computes) return;
      for (const auto* entry : entries)
        not_understood[entry->name].insert(reading.limit.empty() ? name : name + " " + reading.limit);
    });
  }
}

bool TapRecorder::is_wanted(const Layer& layer) const {
  if (options_.only == nullptr) return true;
  const auto& layers = options_.only->layers;
  return std::any_of(layers.begin(), layers.end(),
                     [&](const Layer& wanted) { return wanted.name == layer.name && wanted.kind == layer.kind; });
}

void TapRecorder::record(LayerCall call, const at::Tensor& output) {
  if (!is_wanted(call.layer)) return;
  call.output_shape = output.sizes().vec();
  if (call.part) call.output_shape[static_cast<size_t>(call.part->axis)] = call.part->size;
  call.output_options = output.options();
  if (needs_.outputs && call.layer.kind != LayerKind::kBias) call.output = output.detach();
  if (call.layer.kind == LayerKind::kEmbedding) embeddings_.follow(calls.size(), call, output);
  sources.push_back(needs_.gradients ? gradient_source(output, call.part) : GradientSource{});
  calls.push_back(std::move(call));
}

/// aten::batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled) of the
/// batch's own moments, which with momentum 1 are what it leaves in tensors that stand in for those of the model.
void TapRecorder::normalise_by_batch(torch::jit::Stack& stack) {
  const auto argument = [&](size_t index) -> c10::IValue& { return stack[stack.size() - 9 + index]; };
  c10::IValue &mean = argument(3), &variance = argument(4);
  if (!mean.isTensor() || !mean.toTensor().defined()) return;
  const at::Tensor kept_mean = mean.toTensor(), kept_variance = variance.toTensor();
  const int64_t values = argument(0).toTensor().numel() / std::max(int64_t{1}, kept_mean.numel());
  const auto& moments = batch_norms.emplace_back(
      BatchMoments{kept_mean, kept_variance, at::zeros_like(kept_mean), at::zeros_like(kept_variance), values});
  mean = moments.mean;
  variance = moments.variance;
  argument(5) = true;
  argument(6) = 1.0;
}

void TapRecorder::call(const c10::OperatorHandle& op, torch::jit::Stack& stack) {
  const c10::FunctionSchema& schema = op.schema();
  if (options_.batch_norms_by_batch && schema.name() == "aten::batch_norm") normalise_by_batch(stack);
  const Values on_stack = torch::jit::last(stack, schema.arguments().size());
  bool takes_parameter = false;
  for (size_t i = 0; i < on_stack.size(); ++i)
    for_each_tensor(on_stack[i], [&](const at::Tensor& tensor) {
      takes_parameter |= !parameters_.overlapping(tensor).empty();
      if (!writes(schema, i)) return;
      note_written_parameters(schema, tensor);
      preserve(calls, tensor);
    });
  const bool takes_embedding = embeddings_.takes(on_stack);
  if (!takes_parameter && !takes_embedding) return op.callBoxed(&stack);

  const std::vector<c10::IValue> arguments = on_stack.vec();
  Reading reading = takes_parameter ? read(schema, arguments) : Reading{};
  op.callBoxed(&stack);
  const Values results = torch::jit::last(stack, schema.returns().size());
  if (takes_embedding) embeddings_.note(schema, arguments, results);
  if (takes_parameter) audit(schema, arguments, results, reading);
  for (LayerCall& call : reading.calls) record(std::move(call), results[0].toTensor());
}

}  // namespace amalgam
