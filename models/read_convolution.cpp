#include "models/read_convolution.h"

#include <optional>
#include <utility>

namespace amalgam {
namespace {

/// One value for each spatial axis.
std::vector<int64_t> spatial(const c10::IValue& value, size_t axes) {
  std::vector<int64_t> values = value.toIntVector();
  if (values.size() == 1) values.resize(axes, values[0]);
  return values;
}

/// What "same" pads on each side; none where the sides differ.
std::optional<std::vector<int64_t>> padding_of(const c10::IValue& value, const Layer& layer) {
  if (!value.isString()) return spatial(value, layer.kernel.size());
  std::vector<int64_t> padding(layer.kernel.size(), 0);
  if (value.toStringRef() == "valid") return padding;
  for (size_t i = 0; i < padding.size(); ++i) {
    const int64_t both = layer.dilation[i] * (layer.kernel[i] - 1);
    if (both % 2 != 0) return std::nullopt;
    padding[i] = both / 2;
  }
  return padding;
}

/// Where a convolution's schema has its arguments; input, weight, bias, stride, padding come first in all.
struct ConvolutionArguments {
  size_t dilation, groups;
  std::optional<size_t> transposed;
};

Reading read_any(Arguments arguments, const ParameterMap& parameters, ConvolutionArguments at) {
  const at::Tensor input = tensor_at(arguments, 0), weight = tensor_at(arguments, 1);
  const auto* owner = parameters.owner(weight);
  if (owner == nullptr) return {};
  if (at.transposed && arguments[*at.transposed].toBool()) return not_understood("that is transposed");
  if (!is_whole(owner->parameter, weight)) return not_understood("on a part of the weight");
  if (input.dim() != weight.dim()) return not_understood("on one example without a batch axis");

  Layer layer;
  layer.name = layer_name(owner->name);
  layer.kind = LayerKind::kConvolution;
  layer.weight = owner->name;
  layer.row_end = layer.out = weight.size(0);
  layer.in = weight.numel() / layer.out;
  layer.groups = arguments[at.groups].toInt();
  layer.kernel = weight.sizes().slice(2).vec();
  layer.stride = spatial(arguments[3], layer.kernel.size());
  layer.dilation = spatial(arguments[at.dilation], layer.kernel.size());
  const auto padding = padding_of(arguments[4], layer);
  if (!padding) return not_understood("with a padding that differs on the two sides");
  layer.padding = *padding;

  LayerCall call = make_call(std::move(layer), input);
  call.unit_axes = {1};
  Reading reading = understood(std::move(call), 1);
  read_bias(reading, 2, tensor_at(arguments, 2), parameters);
  return reading;
}

}  // namespace

Reading read_convolution(Arguments arguments, const ParameterMap& parameters) {
  return read_any(arguments, parameters, {.dilation = 5, .groups = 6, .transposed = std::nullopt});
}

Reading read_traced_convolution(Arguments arguments, const ParameterMap& parameters) {
  return read_any(arguments, parameters, {.dilation = 5, .groups = 8, .transposed = 6});
}

}  // namespace amalgam
