#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <string>

#include "models/operator_call.h"
#include "models/parameter_map.h"

// What the readers of the operators have in common (read_products, read_norms, ...).

namespace amalgam {

using Arguments = c10::ArrayRef<c10::IValue>;

/// The argument, if it is a tensor; else an undefined one.
at::Tensor tensor_at(Arguments arguments, size_t index);

/// A reading of one call, in which `argument` is the parameter.
Reading understood(LayerCall call, size_t argument);
Reading not_understood(const char* limit);

/// A call of an operator on `input`, which may be undefined.
LayerCall make_call(Layer layer, const at::Tensor& input);

/// "encoder.query.weight" -> "encoder.query"
std::string layer_name(const std::string& weight);

/// Whether a view shows a parameter as it is, from its first row to its last.
bool is_whole(const at::Tensor& parameter, const at::Tensor& view);

/// Attaches the bias to the reading's call, where it is a parameter whose rows are the weight's.
/// @param index  of the argument
/// @param bias   the argument, or a view of it that has as many axes as the parameter; may be undefined
/// @return whether it was
bool read_bias(Reading& reading, size_t index, const at::Tensor& bias, const ParameterMap& parameters);

/// Aligns the axes of a parameter to the output's, from the last one; an axis repeated by `expand` is one of size 1.
BroadcastView broadcast_view(const at::Tensor& parameter, const at::Tensor& view, int64_t output_axes);

/// A parameter added to an activation, seen as `view`.
LayerCall make_bias_call(const ParameterMap::Entry& owner, const at::Tensor& view, int64_t output_axes);

}  // namespace amalgam
