#include "models/tap_session.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>  // gradient_edge
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/library.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "models/broadcast_embeddings.h"
#include "models/for_each_tensor.h"
#include "models/gradient_source.h"

// Note [Taps]
// A boxed fallback stands on a dispatch key above autograd that a scope switches on. It sees every operator that the
// model calls, with its arguments, before the operator decomposes; it switches the key off for itself, so that what
// happens inside an operator is not seen, and calls on. TESTING_ONLY_GenericMode is LibTorch's own test key: nothing
// else in amalgam knows it, and a test fails should it stop working.
//  - Gradients are captured at the outputs' gradient edges, taken right after the call. The engine then computes only
//  what
//    lies between the loss and these edges: no parameter's gradient. Nothing is put into the graph, so operators may
//    write into an output afterwards. An output that is a view takes its base's edge: when the view is written into,
//    the graph goes on from the base and the view's own node is left out of it.
//  - With a graph, parameters require gradients although theirs are not computed: outputs then require them from the
//  first layer on, and
//    nn.MultiheadAttention and TransformerEncoderLayer do not take their fused path, in which no linear layer is seen.
//  - The profiling executor would move operators into differentiable graphs, from a model's second call on, and run
//  them
//    on detached tensors. It is off while a session lives. A model that was optimised before is found by its weights,
//    which then arrive detached.
//  - The scope ends before the backward pass, whose operators are none of the model's.

namespace amalgam {
namespace {

constexpr auto kTapKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

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

/// What the taps write to during a run.
class TapRecorder {
 public:
  TapRecorder(const NamedTensors& parameters, ObserverNeeds needs, const TapOptions& options);
  ~TapRecorder();
  TapRecorder(const TapRecorder&) = delete;
  TapRecorder& operator=(const TapRecorder&) = delete;

  bool builds_graph() const { return options_.build_graph; }
  void begin_run();
  void end_run();
  /// Calls the operator with the arguments on the stack and records what it does to parameters.
  void call(const c10::OperatorHandle& op, torch::jit::Stack& stack);
  /// @throws InputError if the model has written into a parameter, or was about to, since the run began
  void require_parameters_unchanged() const;

  std::vector<LayerCall> calls;
  std::vector<GradientSource> sources;  // one a call
  std::map<std::string, std::set<std::string>> not_understood;
  std::vector<BatchMoments> batch_norms;

  static thread_local TapRecorder* active;

 private:
  using Values = c10::ArrayRef<c10::IValue>;

  void normalise_by_batch(torch::jit::Stack& stack);
  void note_written_parameters(const c10::FunctionSchema& schema, const at::Tensor& written);
  void preserve(std::vector<LayerCall>& kept_calls, const at::Tensor& written);
  Reading read(const c10::FunctionSchema& schema, Values arguments);
  void audit(const c10::FunctionSchema& schema, Values arguments, Values results, const Reading& reading);
  bool is_wanted(const Layer& layer) const;
  void record(LayerCall call, const at::Tensor& output);

  NamedTensors tensors_;
  ParameterMap parameters_;
  ObserverNeeds needs_;
  TapOptions options_;
  BroadcastEmbeddings embeddings_;
  std::map<std::string, int64_t> versions_;                     // of the parameters, when the run began
  std::optional<std::pair<std::string, std::string>> written_;  // a parameter, and the operator that writes into it
  std::vector<at::Tensor> made_to_require_;
  bool profiling_;
};

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

namespace {

void tap(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard below(kTapKey);
  if (TapRecorder::active != nullptr) {
    TapRecorder::active->call(op, *stack);
  } else {
    op.callBoxed(stack);
  }
}

/// Taps are on in this scope.
class TapScope {
 public:
  explicit TapScope(TapRecorder& recorder) : on_(kTapKey) {
    TORCH_CHECK(TapRecorder::active == nullptr, "a tapped run cannot start inside another one");
    TapRecorder::active = &recorder;
  }
  ~TapScope() { TapRecorder::active = nullptr; }
  TapScope(const TapScope&) = delete;
  TapScope& operator=(const TapScope&) = delete;

 private:
  c10::impl::IncludeDispatchKeyGuard on_;
};

}  // namespace

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&tap>());
}

TapSession::TapSession(const NamedTensors& parameters, ObserverNeeds needs, const TapOptions& options)
    : recorder_(std::make_unique<TapRecorder>(parameters, needs, options)) {}

TapSession::~TapSession() = default;

at::Tensor TapSession::run(const std::function<at::Tensor()>& forward) {
  recorder_->begin_run();
  const at::AutoGradMode gradients(recorder_->builds_graph());
  at::Tensor output;
  try {
    const TapScope scope(*recorder_);
    output = forward();
  } catch (...) {
    recorder_->require_parameters_unchanged();  // what is thrown here says more
    throw;
  }
  recorder_->end_run();
  return output;
}

std::vector<LayerCall>& TapSession::calls() { return recorder_->calls; }

const std::map<std::string, std::set<std::string>>& TapSession::not_understood() const {
  return recorder_->not_understood;
}

const std::vector<BatchMoments>& TapSession::batch_norms() const { return recorder_->batch_norms; }

std::vector<at::Tensor> TapSession::gradients(const at::Tensor& loss, bool keep_graph) {
  TORCH_CHECK(loss.numel() == 1, "gradients are taken of a scalar, not of a tensor of ", loss.numel(), " elements");
  const auto& sources = recorder_->sources;
  std::vector<at::Tensor> gradients(sources.size());
  torch::autograd::edge_list edges;
  std::vector<size_t> indices;
  for (size_t i = 0; i < sources.size(); ++i)
    if (sources[i].edge.is_valid()) {
      edges.push_back(sources[i].edge);
      indices.push_back(i);
    }
  if (edges.empty() || !loss.requires_grad()) return gradients;

  const auto captured = torch::autograd::Engine::get_default_engine().execute(
      {torch::autograd::impl::gradient_edge(loss)}, {at::ones_like(loss)}, keep_graph, /*create_graph=*/false,
      /*accumulate_grad=*/false, edges);
  for (size_t i = 0; i < indices.size(); ++i) gradients[indices[i]] = gradient_of(sources[indices[i]], captured[i]);
  return gradients;
}

}  // namespace amalgam
