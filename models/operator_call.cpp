#include "models/operator_call.h"

#include <functional>
#include <map>
#include <utility>

namespace amalgam {
namespace {

using Arguments = c10::ArrayRef<c10::IValue>;

at::Tensor tensor_at(Arguments arguments, size_t index) {
  return arguments[index].isTensor() ? arguments[index].toTensor() : at::Tensor();
}

Reading understood(Layer layer, const at::Tensor& input, size_t argument) {
  Reading reading;
  reading.call.emplace();
  reading.call->layer = std::move(layer);
  if (input.defined()) reading.call->input = input.detach();
  reading.understood = {argument};
  return reading;
}

Reading not_understood(const char* limit) {
  Reading reading;
  reading.limit = limit;
  return reading;
}

/// "encoder.query.weight" -> "encoder.query"
std::string layer_name(const std::string& weight) {
  const std::string suffix = ".weight";
  return weight.size() > suffix.size() && weight.ends_with(suffix) ? weight.substr(0, weight.size() - suffix.size())
                                                                   : weight;
}

bool is_whole(const at::Tensor& parameter, const at::Tensor& view) {
  if (parameter.dim() == 0) return view.dim() == 0;
  const auto rows = row_slice(parameter, view);
  return rows && rows->end - rows->begin == parameter.size(0);
}

/// Attaches the bias where it is a parameter whose rows are the weight's.
void read_bias(Reading& reading, Arguments arguments, size_t index, const ParameterMap& parameters) {
  const at::Tensor bias = tensor_at(arguments, index);
  const auto* owner = bias.defined() ? parameters.owner(bias) : nullptr;
  if (owner == nullptr || owner->parameter.dim() != bias.dim()) return;
  Layer& layer = reading.call->layer;
  const auto rows = row_slice(owner->parameter, bias);
  const bool is_norm = layer.kind == LayerKind::kLayerNorm || layer.kind == LayerKind::kBatchNorm;
  const bool fits =
      is_norm ? is_whole(owner->parameter, bias) : rows && rows->begin == layer.row_begin && rows->end == layer.row_end;
  if (!fits) return;
  layer.bias = owner->name;
  reading.understood.push_back(index);
}

/// y = x matrixᵀ. @param matrix [out, in], a view of a parameter
Reading read_product(Arguments arguments, size_t input, size_t weight, const at::Tensor& matrix,
                     const ParameterMap& parameters) {
  const auto* owner = parameters.owner(matrix);
  if (owner == nullptr || owner->parameter.dim() != 2 || matrix.dim() != 2) return {};
  bool transposed = false;
  auto rows = row_slice(owner->parameter, matrix);
  if (!rows) {
    transposed = true;
    rows = row_slice(owner->parameter.t(), matrix);
  }
  if (!rows) return not_understood("on a part of the weight that is not a range of rows");
  Layer layer;
  layer.name = layer_name(owner->name);
  const int64_t units = owner->parameter.size(transposed ? 1 : 0);
  if (rows->end - rows->begin != units)
    layer.name += "[" + std::to_string(rows->begin) + ":" + std::to_string(rows->end) + "]";
  layer.kind = LayerKind::kLinear;
  layer.weight = owner->name;
  layer.row_begin = rows->begin;
  layer.row_end = rows->end;
  layer.transposed = transposed;
  layer.out = matrix.size(0);
  layer.in = matrix.size(1);
  return understood(std::move(layer), arguments[input].toTensor(), weight);
}

/// linear(input, weight, bias?)
Reading read_linear(Arguments arguments, const ParameterMap& parameters) {
  Reading reading = read_product(arguments, 0, 1, tensor_at(arguments, 1), parameters);
  if (reading.call) read_bias(reading, arguments, 2, parameters);
  return reading;
}

/// addmm(self, mat1, mat2, *, beta, alpha) = beta self + alpha mat1 mat2
Reading read_addmm(Arguments arguments, const ParameterMap& parameters) {
  Reading reading = read_product(arguments, 1, 2, tensor_at(arguments, 2).t(), parameters);
  if (!reading.call) return reading;
  const auto is_one = [&](size_t index) { return arguments[index].toScalar().equal(1); };
  if (!is_one(4)) return not_understood("with alpha other than 1");
  if (is_one(3)) read_bias(reading, arguments, 0, parameters);
  return reading;
}

/// mm(input, weight), matmul(input, weight)
Reading read_matmul(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor weight = tensor_at(arguments, 1);
  return weight.dim() == 2 ? read_product(arguments, 0, 1, weight.t(), parameters) : Reading{};
}

/// bmm(input, weight), where all items of the batch have the same weight
Reading read_bmm(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor weight = tensor_at(arguments, 1);  // [B, in, out]
  const bool is_shared = weight.size(0) == 1 || (weight.size(0) > 1 && weight.stride(0) == 0);
  return is_shared ? read_product(arguments, 0, 1, weight[0].t(), parameters) : Reading{};
}

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

Reading read_convolution(Arguments arguments, const ParameterMap& parameters, ConvolutionArguments at) {
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

  Reading reading = understood(std::move(layer), input, 1);
  read_bias(reading, arguments, 2, parameters);
  return reading;
}

/// conv(input, weight, bias?, stride, padding, dilation, groups), also with padding as a word
Reading read_functional_convolution(Arguments arguments, const ParameterMap& parameters) {
  return read_convolution(arguments, parameters, {.dilation = 5, .groups = 6, .transposed = std::nullopt});
}

/// convolution(input, weight, bias?, stride, padding, dilation, transposed, output_padding, groups, …)
Reading read_traced_convolution(Arguments arguments, const ParameterMap& parameters) {
  return read_convolution(arguments, parameters, {.dilation = 5, .groups = 8, .transposed = 6});
}

/// embedding(weight, indices, padding_idx, scale_grad_by_freq, sparse)
Reading read_embedding(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor weight = tensor_at(arguments, 0);
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
  Reading reading = understood(std::move(layer), tensor_at(arguments, 1), 0);
  reading.call->padding_index = arguments[2].toInt();
  return reading;
}

Reading read_norm(Arguments arguments, size_t weight_index, LayerKind kind, const ParameterMap& parameters) {
  const at::Tensor weight = tensor_at(arguments, weight_index);
  const auto* owner = weight.defined() ? parameters.owner(weight) : nullptr;
  if (owner == nullptr) return {};
  if (!is_whole(owner->parameter, weight)) return not_understood("on a part of the weight");
  Layer layer;
  layer.name = layer_name(owner->name);
  layer.kind = kind;
  layer.weight = owner->name;
  layer.row_end = layer.out = weight.numel();
  layer.in = 1;
  Reading reading = understood(std::move(layer), tensor_at(arguments, 0), weight_index);
  read_bias(reading, arguments, weight_index + 1, parameters);
  return reading;
}

/// layer_norm(input, normalized_shape, weight?, bias?, eps, cudnn_enable)
Reading read_layer_norm(Arguments arguments, const ParameterMap& parameters) {
  Reading reading = read_norm(arguments, 2, LayerKind::kLayerNorm, parameters);
  if (!reading.call) return reading;
  reading.call->normalized_axes = static_cast<int64_t>(arguments[1].toIntVector().size());
  reading.call->epsilon = arguments[4].toDouble();
  return reading;
}

/// batch_norm(input, weight?, bias?, running_mean?, running_var?, training, momentum, eps, cudnn_enabled)
Reading read_batch_norm(Arguments arguments, const ParameterMap& parameters) {
  if (arguments[5].toBool()) return not_understood("with the statistics of the batch");
  Reading reading = read_norm(arguments, 1, LayerKind::kBatchNorm, parameters);
  if (!reading.call) return reading;
  reading.call->mean = tensor_at(arguments, 3).detach();
  reading.call->variance = tensor_at(arguments, 4).detach();
  reading.call->epsilon = arguments[7].toDouble();
  return reading;
}

/// Aligns the axes of an added parameter to the output's, from the last one; an axis repeated by `expand` is one of
/// size 1.
BroadcastView broadcast_view(const at::Tensor& parameter, const at::Tensor& view, int64_t output_axes) {
  BroadcastView aligned;
  aligned.offset = view.storage_offset() - parameter.storage_offset();
  for (int64_t i = view.dim() - output_axes; i < view.dim(); ++i) {
    const bool repeated = i < 0 || view.size(i) == 1 || view.stride(i) == 0;
    aligned.sizes.push_back(repeated ? 1 : view.size(i));
    aligned.strides.push_back(repeated ? 0 : view.stride(i));
  }
  return aligned;
}

/// add(self, other, *, alpha) where one side is a parameter
Reading read_addition(Arguments arguments, const ParameterMap& parameters, bool in_place) {
  const at::Tensor self = tensor_at(arguments, 0), other = tensor_at(arguments, 1);
  if (!self.defined() || !other.defined()) return {};
  const auto *owner_self = parameters.owner(self), *owner_other = parameters.owner(other);
  if ((owner_self == nullptr) == (owner_other == nullptr)) return {};
  if (owner_self != nullptr && in_place) return not_understood("that writes into the parameter");
  if (owner_other != nullptr && !arguments[2].toScalar().equal(1)) return not_understood("with alpha other than 1");
  const at::Tensor& view = owner_self != nullptr ? self : other;
  const auto& owner = owner_self != nullptr ? *owner_self : *owner_other;
  if (!owner.parameter.is_contiguous()) return not_understood("of a parameter that is not contiguous");

  Layer layer;
  layer.name = layer.bias = owner.name;
  layer.kind = LayerKind::kBias;
  layer.row_end = layer.out = owner.parameter.numel();
  layer.in = 1;
  Reading reading = understood(std::move(layer), {}, owner_self != nullptr ? size_t{0} : size_t{1});
  reading.call->bias_view = broadcast_view(owner.parameter, view, std::max(self.dim(), other.dim()));
  return reading;
}

using Reader = std::function<Reading(Arguments, const ParameterMap&)>;

const std::map<std::string, Reader>& readers() {
  static const std::map<std::string, Reader> all = {
      {"aten::linear", read_linear},
      {"aten::addmm", read_addmm},
      {"aten::mm", read_matmul},
      {"aten::matmul", read_matmul},
      {"aten::bmm", read_bmm},
      {"aten::conv1d", read_functional_convolution},
      {"aten::conv2d", read_functional_convolution},
      {"aten::conv3d", read_functional_convolution},
      {"aten::_convolution_mode", read_functional_convolution},
      {"aten::_convolution", read_traced_convolution},
      {"aten::convolution", read_traced_convolution},
      {"aten::embedding", read_embedding},
      {"aten::layer_norm", read_layer_norm},
      {"aten::batch_norm", read_batch_norm},
      {"aten::add", [](Arguments arguments, const ParameterMap& map) { return read_addition(arguments, map, false); }},
      {"aten::add_", [](Arguments arguments, const ParameterMap& map) { return read_addition(arguments, map, true); }},
  };
  return all;
}

}  // namespace

Reading read_operator_call(const std::string& name, c10::ArrayRef<c10::IValue> arguments,
                           const ParameterMap& parameters) {
  const auto reader = readers().find(name);
  return reader == readers().end() ? Reading{} : reader->second(arguments, parameters);
}

}  // namespace amalgam
