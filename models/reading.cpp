#include "models/reading.h"

#include <utility>

namespace amalgam {

at::Tensor tensor_at(Arguments arguments, size_t index) {
  return arguments[index].isTensor() ? arguments[index].toTensor() : at::Tensor();
}

Reading understood(LayerCall call, size_t argument) {
  Reading reading;
  reading.calls.push_back(std::move(call));
  reading.understood = {argument};
  return reading;
}

Reading not_understood(const char* limit) {
  Reading reading;
  reading.limit = limit;
  return reading;
}

LayerCall make_call(Layer layer, const at::Tensor& input) {
  LayerCall call;
  call.layer = std::move(layer);
  if (input.defined()) call.input = input.detach();
  return call;
}

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

bool read_bias(Reading& reading, size_t index, const at::Tensor& bias, const ParameterMap& parameters) {
  const auto* owner = bias.defined() ? parameters.owner(bias) : nullptr;
  if (owner == nullptr || owner->parameter.dim() != bias.dim()) return false;
  Layer& layer = reading.calls[0].layer;
  const auto rows = row_slice(owner->parameter, bias);
  const bool has_units = layer.kind == LayerKind::kLinear || layer.kind == LayerKind::kConvolution;
  const bool fits = has_units ? rows && rows->begin == layer.row_begin && rows->end == layer.row_end
                              : is_whole(owner->parameter, bias);
  if (!fits) return false;
  layer.bias = owner->name;
  reading.understood.push_back(index);
  return true;
}

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

LayerCall make_bias_call(const ParameterMap::Entry& owner, const at::Tensor& view, int64_t output_axes) {
  Layer layer;
  layer.name = layer.bias = owner.name;
  layer.kind = LayerKind::kBias;
  layer.row_end = layer.out = owner.parameter.numel();
  layer.in = 1;
  LayerCall call = make_call(std::move(layer), {});
  call.bias_view = broadcast_view(owner.parameter, view, output_axes);
  return call;
}

}  // namespace amalgam
