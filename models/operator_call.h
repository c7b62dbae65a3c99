#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/layer_table.h"
#include "models/parameter_map.h"

namespace amalgam {

/// How a parameter was seen when it was added to an activation: sizes and strides aligned to the output's axes (a
/// broadcast axis has size 1), and the offset within the parameter.
struct BroadcastView {
  std::vector<int64_t> sizes, strides;
  int64_t offset = 0;
};

/// The range of one axis of an operator's output that a call stands for.
struct OutputPart {
  int64_t axis = 0, begin = 0, size = 0;
};

/// One call of a parameterised operator, in the operator's own geometry. Tensors are detached.
struct LayerCall {
  Layer layer;  ///< all but `input_of`
  /// What the operator was fed. Linear: [lead..., in], the leading axes in the order of the output's; embedding: the
  /// indices [lead...]; norms and scales: of the output's shape; undefined for kBias.
  at::Tensor input;
  at::Tensor output;  ///< undefined where nobody asked for it
  std::vector<int64_t> output_shape;
  at::TensorOptions output_options;

  /// The axes of the output, not negative, that hold the layer's units: several are units in row-major order, none is
  /// one unit. All other axes are examples and positions. kBias: unused.
  std::vector<int64_t> unit_axes;
  /// Norms: what their weight multiplies, of `input`; empty where that is `input` itself.
  std::function<at::Tensor(const at::Tensor&)> normalise;
  int64_t padding_index = -1;      ///< embedding: the index that gets no gradient
  BroadcastView bias_view;         ///< kBias
  std::optional<OutputPart> part;  ///< where the operator's output is more than this call's (`cat`)
};

/// What an operator does with the parameters among its arguments.
struct Reading {
  std::vector<LayerCall> calls;    ///< none where the operator, or the way it is used, is not understood
  std::vector<size_t> understood;  ///< the arguments that `calls` account for
  std::string limit;               ///< what is not understood about it ("with batch statistics"); may be empty
};

/// Reads a call of a product (linear, addmm, mm, matmul, bmm, baddbmm, einsum), a convolution, an embedding, a norm, a
/// multiplication, an addition, `cat` or `repeat`. Every other operator gives an empty reading.
/// @param name       "aten::linear"
/// @param arguments  as the schema orders them, before the call
Reading read_operator_call(const std::string& name, c10::ArrayRef<c10::IValue> arguments,
                           const ParameterMap& parameters);

}  // namespace amalgam
