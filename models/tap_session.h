#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/observation.h"
#include "core/tensor_source.h"
#include "models/operator_call.h"

namespace amalgam {

class TapRecorder;

/// What one call of a batch norm saw of a batch.
struct BatchMoments {
  at::Tensor kept_mean, kept_variance;  ///< the tensors that the model keeps moments in
  at::Tensor mean, variance;            ///< [C] of the call's input, in the dtype of those; the variance unbiased
  int64_t values = 0;                   ///< of each channel: examples times positions
};

struct TapOptions {
  /// Whether the forward pass runs with gradients enabled. A pass that needs no gradients may do without, and then
  /// keeps no activations; but some models (nn.MultiheadAttention) then take another path, in which no layer is seen.
  bool build_graph = true;
  /// The layers to record, by name and kind; all where null. What happens to the parameters of others is still audited.
  /// Must outlive the session.
  const LayerTable* only = nullptr;
  /// Batch norms normalise by the batch, whatever the model says; the buffers that they keep moments in stay as they
  /// are.
  bool batch_norms_by_batch = false;
};

/// Sees every parameterised operation of a model's forward pass, and the gradient of its output, without touching the
/// model: scripted, traced and eager code alike. Note [Taps] in tap_session.cpp.
///
/// While a session lives, the floating parameters require gradients, if a graph is built, and TorchScript's profiling
/// mode is off; both are put back when it ends. One session at a time a thread.
class TapSession {
 public:
  /// @param parameters  the live tensors, by their first names
  /// @param needs       whether `gradients` will be called (else the graph lives no longer than the model's output
  /// does)
  ///                    and whether `calls()` hold outputs
  TapSession(const NamedTensors& parameters, ObserverNeeds needs, const TapOptions& options = {});
  ~TapSession();
  TapSession(const TapSession&) = delete;
  TapSession& operator=(const TapSession&) = delete;

  /// Runs `forward` and records its calls in place of those of the run before.
  /// @throws InputError if it writes into a parameter (named)
  at::Tensor run(const std::function<at::Tensor()>& forward);

  /// The calls of the last run that are understood, in their order. Inputs and outputs are as they were at the call,
  /// even where the model wrote into them later. They may be taken out (moved from).
  std::vector<LayerCall>& calls();

  /// Parameter -> the operators of the last run that took it, or a view of it, and are not understood, in words
  /// ("aten::div", "aten::batch_norm with the statistics of the batch"). Without a graph operators that look only at a
  /// parameter's shape, or compare it, may be among them.
  const std::map<std::string, std::set<std::string>>& not_understood() const;

  /// With `batch_norms_by_batch`: of each call, in the last run, of a batch norm that keeps moments.
  const std::vector<BatchMoments>& batch_norms() const;

  /// The gradient of `loss`, a scalar made of the last run's output, by the output of each call (its own shape, before
  /// anything was written into it); undefined where the loss does not depend on it. Gradients of parameters are not
  /// computed, nor those by outputs that come before the first layer that is recorded.
  /// @param keep_graph  whether another call may follow
  std::vector<at::Tensor> gradients(const at::Tensor& loss, bool keep_graph = false);

 private:
  std::unique_ptr<TapRecorder> recorder_;
};

}  // namespace amalgam
