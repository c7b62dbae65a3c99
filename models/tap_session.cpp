#include "models/tap_session.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>  // gradient_edge
#include <torch/library.h>

#include "models/tap_recorder.h"

// Note [Taps]
// A boxed fallback stands on a dispatch key above autograd that a scope switches on. It sees every operator that the
// model calls, with its arguments, before the operator decomposes; it switches the key off for itself, so that what
// happens inside an operator is not seen, and calls on. TESTING_ONLY_GenericMode is LibTorch's own test key: nothing
// else in amalgam knows it, and a test fails should it stop working.
//  - Gradients are captured at the outputs' gradient edges, taken right after the call. The engine then computes only
//    what lies between the loss and these edges: no parameter's gradient. Nothing is put into the graph, so operators
//    may write into an output afterwards. An output that is a view takes its base's edge: when the view is written
//    into, the graph goes on from the base and the view's own node is left out of it.
//  - With a graph, parameters require gradients although theirs are not computed: outputs then require them from the
//    first layer on, and nn.MultiheadAttention and TransformerEncoderLayer do not take their fused path, in which no
//    linear layer is seen.
//  - The profiling executor would move operators into differentiable graphs, from a model's second call on, and run
//    them on detached tensors. It is off while a session lives. A model that was optimised before is found by its
//    weights, which then arrive detached.
//  - The scope ends before the backward pass, whose operators are none of the model's.

namespace amalgam {
namespace {

constexpr auto kTapKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

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
