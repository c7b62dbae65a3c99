#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/edge.h>

#include <optional>

#include "models/operator_call.h"

namespace amalgam {

/// Where the gradient of an operator's output is found. Note [Taps] in tap_session.cpp.
struct GradientSource {
  torch::autograd::Edge edge;      ///< not valid where the output requires no gradient
  at::Tensor base;                 ///< detached; of a view: the tensor that the edge belongs to; else undefined
  at::Tensor output;               ///< detached; of a view: for its geometry
  std::optional<OutputPart> part;  ///< of the output; all of it where there is none
};

/// To be called right after the operator.
GradientSource gradient_source(const at::Tensor& output, const std::optional<OutputPart>& part = std::nullopt);

/// The gradient of the output, or of the part of it.
/// @param captured  by the engine, at the source's edge; may be undefined
at::Tensor gradient_of(const GradientSource& source, const at::Tensor& captured);

}  // namespace amalgam
