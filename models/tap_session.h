#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/observation.h"
#include "core/tensor_source.h"
#include "models/operator_call.h"

namespace amalgam {

class TapRecorder;

/// Sees every parameterised operation of a model's forward pass, and the gradient of its output, without touching the
/// model: scripted, traced and eager code alike. Note [Taps] in tap_session.cpp.
///
/// While a session lives, the floating parameters require gradients and TorchScript's profiling mode is off; both are
/// put back when it ends. One session at a time a thread.
class TapSession {
 public:
  /// @param parameters  the live tensors, by their first names
  /// @param needs       whether `gradients` will be called (else the graph lives no longer than the model's output
  /// does)
  ///                    and whether `calls()` hold outputs
  TapSession(const NamedTensors& parameters, ObserverNeeds needs);
  ~TapSession();
  TapSession(const TapSession&) = delete;
  TapSession& operator=(const TapSession&) = delete;

  /// Runs `forward` with gradients enabled and records its calls in place of those of the run before.
  at::Tensor run(const std::function<at::Tensor()>& forward);

  /// The calls of the last run that are understood, in their order. Inputs and outputs are as they were at the call,
  /// even where the model wrote into them later. They may be taken out (moved from).
  std::vector<LayerCall>& calls();

  /// Parameter -> the operators of the last run that took it, or a view of it, and are not understood, in words
  /// ("aten::mul", "aten::batch_norm with the statistics of the batch").
  const std::map<std::string, std::set<std::string>>& not_understood() const;

  /// The gradient of `loss`, a scalar made of the last run's output, by the output of each call (its own shape, before
  /// anything was written into it); undefined where the loss does not depend on it. Gradients of parameters are not
  /// computed.
  /// @param keep_graph  whether another call may follow
  std::vector<at::Tensor> gradients(const at::Tensor& loss, bool keep_graph = false);

 private:
  std::unique_ptr<TapRecorder> recorder_;
};

}  // namespace amalgam
