#include "models/read_norms.h"

#include <optional>
#include <utility>

namespace amalgam {
namespace {

/// A layer whose weight has one number a unit.
Layer elementwise_layer(const ParameterMap::Entry& owner, LayerKind kind) {
  Layer layer;
  layer.name = layer_name(owner.name);
  layer.kind = kind;
  layer.weight = owner.name;
  layer.row_end = layer.out = owner.parameter.numel();
  layer.in = 1;
  return layer;
}

/// @param weight  the index of the weight
/// @param bias    the index of the bias; none where the operator has none
Reading read_norm(Arguments arguments, size_t weight, std::optional<size_t> bias, LayerKind kind,
                  std::vector<int64_t> unit_axes, const ParameterMap& parameters) {
  const at::Tensor view = tensor_at(arguments, weight);
  const auto* owner = view.defined() ? parameters.owner(view) : nullptr;
  if (owner == nullptr) return {};
  if (!is_whole(owner->parameter, view)) return not_understood("on a part of the weight");
  LayerCall call = make_call(elementwise_layer(*owner, kind), tensor_at(arguments, 0));
  call.unit_axes = std::move(unit_axes);
  Reading reading = understood(std::move(call), weight);
  if (bias) read_bias(reading, *bias, tensor_at(arguments, *bias), parameters);
  return reading;
}

/// The last `count` of a tensor's axes.
std::vector<int64_t> last_axes(const at::Tensor& tensor, size_t count) {
  std::vector<int64_t> axes;
  for (int64_t axis = tensor.dim() - static_cast<int64_t>(count); axis < tensor.dim(); ++axis) axes.push_back(axis);
  return axes;
}

/// (x − mean) / √(variance + epsilon), channel by channel.
at::Tensor normalise_channels(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& variance, double epsilon) {
  std::vector<int64_t> by_channel(static_cast<size_t>(x.dim()), 1);
  by_channel[1] = -1;
  return (x - mean.view(by_channel)) * (variance + epsilon).rsqrt().view(by_channel);
}

/// A norm by running statistics, whose schema is batch_norm's.
Reading read_norm_by_running_statistics(Arguments arguments, LayerKind kind, const ParameterMap& parameters) {
  Reading reading = read_norm(arguments, 1, 2, kind, {1}, parameters);
  if (reading.calls.empty()) return reading;
  const at::Tensor mean = tensor_at(arguments, 3).detach(), variance = tensor_at(arguments, 4).detach();
  reading.calls[0].normalise = [mean, variance, epsilon = arguments[7].toDouble()](const at::Tensor& x) {
    return normalise_channels(x, mean, variance, epsilon);
  };
  return reading;
}

/// The axes of an output that a factor is not broadcast over, if it is the whole parameter in the order of its memory.
std::optional<std::vector<int64_t>> axes_of_factor(const at::Tensor& parameter, const at::Tensor& factor,
                                                   int64_t output_axes) {
  const BroadcastView view = broadcast_view(parameter, factor, output_axes);
  std::vector<int64_t> axes;
  int64_t stride = 1;
  for (size_t i = view.sizes.size(); i-- > 0;) {
    if (view.sizes[i] == 1) continue;
    if (view.strides[i] != stride) return std::nullopt;
    stride *= view.sizes[i];
    axes.insert(axes.begin(), static_cast<int64_t>(i));
  }
  const bool is_all = stride == parameter.numel() && view.offset == 0 && parameter.is_contiguous();
  return is_all ? std::optional(axes) : std::nullopt;
}

/// @param factor  the index of the parameter; the other one is the activation
Reading read_factor(Arguments arguments, size_t factor, const ParameterMap& parameters) {
  const at::Tensor view = tensor_at(arguments, factor), input = tensor_at(arguments, 1 - factor);
  const auto* owner = parameters.owner(view);
  if (owner == nullptr) return {};
  const int64_t output_axes = std::max(view.dim(), input.dim());
  const auto axes = axes_of_factor(owner->parameter, view, output_axes);
  if (!axes) return not_understood("by a part of the parameter, or by one in another order");
  if (static_cast<int64_t>(axes->size()) == output_axes) return {};  // a computation of parameters
  LayerCall call = make_call(elementwise_layer(*owner, LayerKind::kScale),
                             input.expand(at::infer_size(view.sizes(), input.sizes())));
  call.unit_axes = *axes;
  return understood(std::move(call), factor);
}

}  // namespace

Reading read_layer_norm(Arguments arguments, const ParameterMap& parameters) {
  const auto shape = arguments[1].toIntVector();
  Reading reading =
      read_norm(arguments, 2, 3, LayerKind::kLayerNorm, last_axes(tensor_at(arguments, 0), shape.size()), parameters);
  if (!reading.calls.empty())
    reading.calls[0].normalise = [shape, epsilon = arguments[4].toDouble()](const at::Tensor& x) {
      return at::layer_norm(x, shape, {}, {}, epsilon);
    };
  return reading;
}

Reading read_rms_norm(Arguments arguments, const ParameterMap& parameters) {
  const auto shape = arguments[1].toIntVector();
  Reading reading = read_norm(arguments, 2, std::nullopt, LayerKind::kRmsNorm,
                              last_axes(tensor_at(arguments, 0), shape.size()), parameters);
  if (!reading.calls.empty())
    reading.calls[0].normalise = [shape, epsilon = arguments[3].toOptional<double>()](const at::Tensor& x) {
      return at::rms_norm(x, shape, {}, epsilon);
    };
  return reading;
}

Reading read_group_norm(Arguments arguments, const ParameterMap& parameters) {
  Reading reading = read_norm(arguments, 2, 3, LayerKind::kGroupNorm, {1}, parameters);
  if (!reading.calls.empty())
    reading.calls[0].normalise = [groups = arguments[1].toInt(), epsilon = arguments[4].toDouble()](
                                     const at::Tensor& x) { return at::group_norm(x, groups, {}, {}, epsilon); };
  return reading;
}

Reading read_instance_norm(Arguments arguments, const ParameterMap& parameters) {
  if (!arguments[5].toBool()) return read_norm_by_running_statistics(arguments, LayerKind::kInstanceNorm, parameters);
  Reading reading = read_norm(arguments, 1, 2, LayerKind::kInstanceNorm, {1}, parameters);
  if (!reading.calls.empty())
    reading.calls[0].normalise = [epsilon = arguments[7].toDouble()](const at::Tensor& x) {
      return at::instance_norm(x, {}, {}, {}, {}, /*use_input_stats=*/true, 0, epsilon, false);
    };
  return reading;
}

Reading read_batch_norm(Arguments arguments, const ParameterMap& parameters) {
  if (arguments[5].toBool()) return not_understood("with the statistics of the batch");
  return read_norm_by_running_statistics(arguments, LayerKind::kBatchNorm, parameters);
}

Reading read_multiplication(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor self = tensor_at(arguments, 0), other = tensor_at(arguments, 1);
  if (!self.defined() || !other.defined()) return {};
  const bool first = !parameters.overlapping(self).empty(), second = !parameters.overlapping(other).empty();
  if (first == second) return {};
  return read_factor(arguments, first ? 0 : 1, parameters);
}

Reading read_multiplication_in_place(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor self = tensor_at(arguments, 0), other = tensor_at(arguments, 1);
  const bool only_other = other.defined() && parameters.overlapping(self).empty();
  return only_other ? read_factor(arguments, 1, parameters) : Reading{};
}

}  // namespace amalgam
