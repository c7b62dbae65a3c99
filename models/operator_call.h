#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

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

/// One call of a parameterised operator, in the operator's own geometry. Tensors are detached.
struct LayerCall {
  Layer layer;        ///< all but `input_of`
  at::Tensor input;   ///< what the weight meets; embedding: the indices; undefined for kBias
  at::Tensor output;  ///< undefined where nobody asked for it
  std::vector<int64_t> output_shape;
  at::TensorOptions output_options;

  int64_t normalized_axes = 0;  ///< layer norm: the trailing axes that are normalised
  double epsilon = 0;           ///< layer norm, batch norm
  at::Tensor mean, variance;    ///< batch norm: running statistics [channels]
  int64_t padding_index = -1;   ///< embedding: the index that gets no gradient
  BroadcastView bias_view;      ///< kBias
};

/// What an operator does with the parameters among its arguments.
struct Reading {
  std::optional<LayerCall> call;   ///< none where the operator, or the way it is used, is not understood
  std::vector<size_t> understood;  ///< the arguments that `call` accounts for
  std::string limit;               ///< what is not understood about it ("with batch statistics"); may be empty
};

/// Reads a call of linear, addmm, mm, matmul, bmm, a convolution, embedding, layer_norm, batch_norm, or an addition.
/// Every other operator gives an empty reading.
/// @param name       "aten::linear"
/// @param arguments  as the schema orders them, before the call
Reading read_operator_call(const std::string& name, c10::ArrayRef<c10::IValue> arguments,
                           const ParameterMap& parameters);

}  // namespace amalgam
