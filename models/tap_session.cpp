#include "models/tap_session.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <utility>

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
//  - Parameters require gradients although theirs are not computed: outputs then require them from the first layer on,
//  and
//    nn.MultiheadAttention and TransformerEncoderLayer do not take their fused path, in which no linear layer is seen.
//  - The profiling executor would move operators into differentiable graphs, from a model's second call on, and run
//  them
//    on detached tensors. It is off while a session lives. A model that was optimised before is found by its weights,
//    which then arrive detached.
//  - The scope ends before the backward pass, whose operators are none of the model's.

namespace amalgam {
namespace {

constexpr auto kTapKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

/// Where the gradient of an output is found.
struct GradientSource {
  torch::autograd::Edge edge;
  at::Tensor base;    ///< detached; of a view: the tensor that the edge belongs to; else undefined
  at::Tensor output;  ///< detached; of a view: for its geometry
};

GradientSource gradient_source(const at::Tensor& output) {
  if (!output.requires_grad()) return {};
  if (!output.is_view()) return {torch::autograd::impl::gradient_edge(output), {}, {}};
  const at::Tensor base(output._base());
  return {torch::autograd::impl::gradient_edge(base), base.detach(), output.detach()};
}

/// The part of a base's gradient that belongs to a view of it.
at::Tensor part_of_view(const at::Tensor& base_gradient, const at::Tensor& base, const at::Tensor& view) {
  if (base.is_contiguous() && view.is_contiguous() && base.numel() == view.numel())
    return base_gradient.reshape(view.sizes());
  const at::Tensor laid_out =
      at::empty_strided(base.sizes(), base.strides(), base_gradient.options()).copy_(base_gradient);
  return laid_out.as_strided(view.sizes(), view.strides(), view.storage_offset() - base.storage_offset());
}

template <class Visit>
void for_each_tensor(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) visit(tensor);
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
      if (tensor && tensor->defined()) visit(*tensor);
  }
}

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
  TapRecorder(const NamedTensors& parameters, ObserverNeeds needs);
  ~TapRecorder();
  TapRecorder(const TapRecorder&) = delete;
  TapRecorder& operator=(const TapRecorder&) = delete;

  void reset();
  /// Calls the operator with the arguments on the stack and records what it does to parameters.
  void call(const c10::OperatorHandle& op, torch::jit::Stack& stack);

  std::vector<LayerCall> calls;
  std::vector<GradientSource> sources;  // one a call
  std::map<std::string, std::set<std::string>> not_understood;

  static thread_local TapRecorder* active;

 private:
  using Values = c10::ArrayRef<c10::IValue>;

  void preserve(const at::Tensor& written);
  Reading read(const std::string& name, Values arguments) const;
  void audit(const c10::FunctionSchema& schema, Values arguments, Values results, const Reading& reading);
  void record(LayerCall call, const at::Tensor& output);

  ParameterMap parameters_;
  ObserverNeeds needs_;
  std::vector<at::Tensor> made_to_require_;
  bool profiling_;
};

thread_local TapRecorder* TapRecorder::active = nullptr;

TapRecorder::TapRecorder(const NamedTensors& parameters, ObserverNeeds needs)
    : parameters_(parameters), needs_(needs), profiling_(torch::jit::getProfilingMode()) {
  for (const auto& [name, tensor] : parameters)
    TORCH_CHECK(tensor.is_leaf(), "parameter '", name, "' is the result of a computation");
  for (const auto& [name, tensor] : parameters)
    if (tensor.is_floating_point() && !tensor.requires_grad()) made_to_require_.push_back(tensor.requires_grad_());
  torch::jit::getProfilingMode() = false;
}

TapRecorder::~TapRecorder() {
  for (const at::Tensor& tensor : made_to_require_) tensor.requires_grad_(false);
  torch::jit::getProfilingMode() = profiling_;
}

void TapRecorder::reset() {
  calls.clear();
  sources.clear();
  not_understood.clear();
}

/// Before an operator writes into a tensor whose content we keep, takes a copy; calls that share the tensor share it.
void TapRecorder::preserve(const at::Tensor& written) {
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // what was kept, its copy
  for (LayerCall& call : calls)
    for (at::Tensor* kept : {&call.input, &call.output}) {
      if (!kept->defined() || !kept->is_alias_of(written)) continue;
      auto known =
          std::find_if(copies.begin(), copies.end(), [&](const auto& copy) { return is_same_view(copy.first, *kept); });
      if (known == copies.end()) known = copies.insert(known, {*kept, kept->clone()});
      *kept = known->second;
    }
}

Reading TapRecorder::read(const std::string& name, Values arguments) const {
  Reading reading = read_operator_call(name, arguments, parameters_);
  const bool detached = at::GradMode::is_enabled() &&
                        std::any_of(reading.understood.begin(), reading.understood.end(),
                                    [&](size_t index) { return !arguments[index].toTensor().requires_grad(); });
  if (!detached) return reading;
  reading = {};
  reading.limit =
      "on a detached copy (the model detaches it, or TorchScript had optimised the model in earlier calls: open it "
      "afresh)";
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
      bool computes = writes(schema, i) || !reading.limit.empty();
      for (const c10::IValue& result : results)
        for_each_tensor(result,
                        [&](const at::Tensor& made) { computes |= made.requires_grad() && !made.is_alias_of(taken); });
      if (!computes) return;
      for (const auto* entry : entries)
        not_understood[entry->name].insert(reading.limit.empty() ? name : name + " " + reading.limit);
    });
  }
}

void TapRecorder::record(LayerCall call, const at::Tensor& output) {
  call.output_shape = output.sizes().vec();
  call.output_options = output.options();
  if (needs_.outputs && call.layer.kind != LayerKind::kBias) call.output = output.detach();
  sources.push_back(needs_.gradients ? gradient_source(output) : GradientSource{});
  calls.push_back(std::move(call));
}

void TapRecorder::call(const c10::OperatorHandle& op, torch::jit::Stack& stack) {
  const c10::FunctionSchema& schema = op.schema();
  const Values on_stack = torch::jit::last(stack, schema.arguments().size());
  bool takes_parameter = false;
  for (size_t i = 0; i < on_stack.size(); ++i)
    for_each_tensor(on_stack[i], [&](const at::Tensor& tensor) {
      takes_parameter |= !parameters_.overlapping(tensor).empty();
      if (writes(schema, i)) preserve(tensor);
    });
  if (!takes_parameter) return op.callBoxed(&stack);

  const std::vector<c10::IValue> arguments = on_stack.vec();
  Reading reading = read(schema.name(), arguments);
  op.callBoxed(&stack);
  const Values results = torch::jit::last(stack, schema.returns().size());
  audit(schema, arguments, results, reading);
  if (reading.call) record(std::move(*reading.call), results[0].toTensor());
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

TapSession::TapSession(const NamedTensors& parameters, ObserverNeeds needs)
    : recorder_(std::make_unique<TapRecorder>(parameters, needs)) {}

TapSession::~TapSession() = default;

at::Tensor TapSession::run(const std::function<at::Tensor()>& forward) {
  recorder_->reset();
  const at::AutoGradMode gradients(true);
  const TapScope scope(*recorder_);
  return forward();
}

std::vector<LayerCall>& TapSession::calls() { return recorder_->calls; }

const std::map<std::string, std::set<std::string>>& TapSession::not_understood() const {
  return recorder_->not_understood;
}

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
  for (size_t i = 0; i < indices.size(); ++i) {
    const GradientSource& source = sources[indices[i]];
    const bool is_view = source.base.defined() && captured[i].defined();
    gradients[indices[i]] = is_view ? part_of_view(captured[i], source.base, source.output) : captured[i];
  }
  return gradients;
}

}  // namespace amalgam
