#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/observation.h"
#include "core/tensor_source.h"
#include "models/broadcast_embeddings.h"
#include "models/gradient_source.h"
#include "models/operator_call.h"
#include "models/tap_session.h"

namespace amalgam {

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

}  // namespace amalgam
