#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "core/batch.h"
#include "core/observation.h"
#include "models/operator_call.h"

namespace amalgam {

/// Where a layer's tensors have the examples: on an axis of their own ([N, T, d], [T, N, d]), or on one that they share
/// with positions, the example outside ([N·T, d]) or inside ([T·N, d]).
struct ExampleLayout {
  enum class Order { kOwnAxis, kExampleMajor, kPositionMajor };

  Order order = Order::kOwnAxis;
  int64_t axis = 0;

  bool operator==(const ExampleLayout&) const = default;
};

/// The layouts under which the loss of each example has gradients in the rows of that example alone. None where the
/// examples are mixed; no value where no loss has a gradient.
/// @param gradients  of each example's loss by the call's output; undefined where there is none
std::optional<std::vector<ExampleLayout>> fitting_layouts(const LayerCall& call,
                                                          const std::vector<at::Tensor>& gradients);

/// T, the rows of one example at a layer.
/// @param examples  in the batch
int64_t rows_of_example(const LayerCall& call, int64_t examples);

/// Lays out a call as core/observation.h demands. The mask goes along where the layer has as many rows. Where an
/// embedding's padding index stands the gradient is zero, as for autograd.
/// @param gradient  by the call's output; undefined where the loss does not depend on it: zero
/// @throws InputError if the batch is laid out in another way
LayerUse canonical_use(const LayerCall& call, const at::Tensor& gradient, const ExampleLayout& layout,
                       const Batch& batch, ObserverNeeds needs);

}  // namespace amalgam
