#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/layer_table.h"

namespace amalgam {

/// One use of a layer in one batch. N examples, T rows (positions) each. Everything is detached.
struct LayerUse {
  /// linear [N, T, in]; convolution [N, channels, spatial...], or [N, images, channels, spatial...] where an example
  /// has several images (T then counts the positions of all); embedding int64 [N, T]; norms and scales: what the weight
  /// multiplies, for norms the normalised input, [N, T, out]; bias: undefined.
  at::Tensor input;
  /// [N, T, out], before any activation; undefined where nobody asked for it, and for bias.
  at::Tensor output;
  /// [N, T, out]: the gradient of the summed loss by `output`; bias: already summed over broadcast positions, [N, 1,
  /// out]. Undefined in a pass without gradients.
  at::Tensor output_gradient;
  /// bool [N, T]: the rows that count; undefined where all do.
  at::Tensor mask;
};

/// All that a batch showed of one layer. A tied weight has several uses.
struct LayerObservation {
  const Layer& layer;
  const std::vector<LayerUse>& uses;
  /// True for a further backward pass through the same forward pass (`exact` labels, one class each): inputs and
  /// outputs have been counted already, gradients have not.
  bool repeated = false;
};

/// What an observer wants to be shown.
struct ObserverNeeds {
  bool gradients = false;
  bool outputs = false;
};

/// Taps call it, accumulators implement it; neither knows the other.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  virtual ObserverNeeds needs() const = 0;
  /// Once a layer, batch and backward pass.
  virtual void observe(const LayerObservation& observation) = 0;
  /// After all layers of a batch of `examples` examples.
  virtual void end_batch(int64_t examples) = 0;
};

}  // namespace amalgam
