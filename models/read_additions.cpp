#include "models/read_additions.h"

#include <ATen/WrapDimUtils.h>

#include <algorithm>
#include <utility>

namespace amalgam {
namespace {

constexpr const char* kNotContiguous = "of a parameter that is not contiguous";

/// @param argument  the parameter; the other one is the activation
Reading read_summand(Arguments arguments, size_t argument, const ParameterMap& parameters) {
  const at::Tensor view = tensor_at(arguments, argument);
  const auto* owner = parameters.owner(view);
  if (owner == nullptr) return {};
  if (argument == 1 && !arguments[2].toScalar().equal(1)) return not_understood("with alpha other than 1");
  if (!owner->parameter.is_contiguous()) return not_understood(kNotContiguous);
  const int64_t output_axes = std::max(view.dim(), tensor_at(arguments, 1 - argument).dim());
  return understood(make_bias_call(*owner, view, output_axes), argument);
}

}  // namespace

Reading read_addition(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor self = tensor_at(arguments, 0), other = tensor_at(arguments, 1);
  if (!self.defined() || !other.defined()) return {};
  const bool first = parameters.owner(self) != nullptr, second = parameters.owner(other) != nullptr;
  if (first == second) return {};
  return read_summand(arguments, first ? 0 : 1, parameters);
}

Reading read_addition_in_place(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor self = tensor_at(arguments, 0), other = tensor_at(arguments, 1);
  const bool only_other = other.defined() && parameters.overlapping(self).empty();
  return only_other ? read_summand(arguments, 1, parameters) : Reading{};
}

Reading read_cat(Arguments arguments, const ParameterMap& parameters) {
  const auto tensors = arguments[0].toTensorVector();
  Reading reading;
  int64_t begin = 0;
  size_t taken = 0;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.dim() == 0) return {};
    const int64_t axis = at::maybe_wrap_dim(arguments[1].toInt(), tensor.dim()), size = tensor.size(axis);
    if (!parameters.overlapping(tensor).empty()) {
      const auto* owner = parameters.owner(tensor);
      if (owner == nullptr) return {};
      if (!owner->parameter.is_contiguous()) return not_understood(kNotContiguous);
      reading.calls.push_back(make_bias_call(*owner, tensor, tensor.dim()));
      reading.calls.back().part = OutputPart{axis, begin, size};
      ++taken;
    }
    begin += size;
  }
  if (taken == tensors.size()) return {};  // a computation of parameters
  reading.understood = {0};
  return reading;
}

Reading read_repeat(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor view = tensor_at(arguments, 0);
  const auto repeats = arguments[1].toIntVector();
  const auto* owner = parameters.owner(view);
  if (owner == nullptr) return {};
  if (!owner->parameter.is_contiguous()) return not_understood(kNotContiguous);
  const auto axes = static_cast<int64_t>(repeats.size());
  LayerCall call = make_bias_call(*owner, view, axes);
  for (size_t i = 0; i < repeats.size(); ++i)
    if (repeats[i] != 1 && call.bias_view.sizes[i] != 1) return not_understood("along an axis that is longer than 1");
  return understood(std::move(call), 0);
}

Reading read_embedding(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor weight = tensor_at(arguments, 0), indices = tensor_at(arguments, 1);
  const auto* owner = parameters.owner(weight);
  if (owner == nullptr) return {};
  if (!is_whole(owner->parameter, weight)) return not_understood("on a part of the weight");
  if (arguments[3].toBool()) return not_understood("with gradients scaled by frequency");
  Layer layer;
  layer.name = layer_name(owner->name);
  layer.kind = LayerKind::kEmbedding;
  layer.weight = owner->name;
  layer.transposed = true;
  layer.in = weight.size(0);
  layer.row_end = layer.out = weight.size(1);
  LayerCall call = make_call(std::move(layer), indices);
  call.unit_axes = {indices.dim()};
  call.padding_index = arguments[2].toInt();
  return understood(std::move(call), 0);
}

}  // namespace amalgam
