#include "models/example_layout.h"

#include <fmt/ranges.h>

#include "core/error.h"

namespace amalgam {
namespace {

using Order = ExampleLayout::Order;

/// [lead..., features]: the features last, on one axis.
at::Tensor features_last(const LayerCall& call, const at::Tensor& tensor) {
  switch (call.layer.kind) {
    case LayerKind::kConvolution:
    case LayerKind::kBatchNorm:
      return tensor.movedim(1, -1);
    case LayerKind::kLayerNorm:
      return tensor.flatten(-call.normalized_axes);
    default:
      return tensor;
  }
}

/// [N, ...]: the axes but the examples' in their order; of an axis that examples shared, the positions stay.
at::Tensor examples_first(const at::Tensor& tensor, const ExampleLayout& layout, int64_t examples,
                          const std::string& layer) {
  const int64_t axis = layout.axis;
  const int64_t size = axis < tensor.dim() ? tensor.size(axis) : 0;
  const bool fits = layout.order == Order::kOwnAxis ? size == examples : size > 0 && size % examples == 0;
  require_input(fits,
                "layer '{}': a tensor [{}] does not have the {} examples of the batch where it had those of the first "
                "batch (axis {}); the model must treat all batches alike",
                layer, fmt::join(tensor.sizes(), ", "), examples, axis);
  switch (layout.order) {
    case Order::kExampleMajor:
      return tensor.unflatten(axis, {examples, size / examples}).movedim(axis, 0);
    case Order::kPositionMajor:
      return tensor.unflatten(axis, {size / examples, examples}).movedim(axis + 1, 0);
    default:
      return tensor.movedim(axis, 0);
  }
}

/// [lead..., features] -> [N, T, features]
at::Tensor rows_of(const at::Tensor& tensor, const ExampleLayout& layout, int64_t examples, const std::string& layer) {
  const at::Tensor first = examples_first(tensor, layout, examples, layer);
  return first.dim() == 2 ? first.unsqueeze(1) : first.flatten(1, -2);
}

/// What weight and bias of a norm are applied to.
at::Tensor normalised(const LayerCall& call) {
  if (call.layer.kind == LayerKind::kLayerNorm)
    return at::layer_norm(call.input,
                          call.input.sizes().slice(static_cast<size_t>(call.input.dim() - call.normalized_axes)), {},
                          {}, call.epsilon);
  std::vector<int64_t> by_channel(static_cast<size_t>(call.input.dim()), 1);
  by_channel[1] = -1;
  return (call.input - call.mean.view(by_channel)) * (call.variance + call.epsilon).rsqrt().view(by_channel);
}

/// The gradient of an added parameter, example by example, [N, 1, out]: summed over the axes that it was repeated on,
/// and zero where it was not used.
at::Tensor bias_gradient(const LayerCall& call, const at::Tensor& gradient, const ExampleLayout& layout,
                         int64_t examples) {
  at::Tensor summed = examples_first(gradient, layout, examples, call.layer.name);  // [N, ...]
  std::vector<int64_t> sizes = call.bias_view.sizes, strides = call.bias_view.strides;
  if (layout.order == Order::kOwnAxis) {
    sizes.erase(sizes.begin() + layout.axis);
    strides.erase(strides.begin() + layout.axis);
  }
  std::vector<int64_t> repeated;
  for (size_t i = 0; i < sizes.size(); ++i)
    if (sizes[i] == 1) repeated.push_back(static_cast<int64_t>(i) + 1);
  if (!repeated.empty()) summed = summed.sum(repeated, /*keepdim=*/true);

  at::Tensor result = at::zeros({examples, 1, call.layer.out}, gradient.options());
  sizes.insert(sizes.begin(), examples);
  strides.insert(strides.begin(), call.layer.out);
  result.as_strided(sizes, strides, call.bias_view.offset).copy_(summed);
  return result;
}

/// Where the gradient is not zero, feature axes left out: bool [lead...].
at::Tensor reached_positions(const LayerCall& call, const at::Tensor& gradient) {
  const at::Tensor reached = features_last(call, gradient).ne(0);
  return call.layer.kind == LayerKind::kBias ? reached : reached.any(-1);
}

/// @param reached  bool [examples, lead...] on the CPU: what example k's loss reaches
bool fits(const at::Tensor& reached, const ExampleLayout& layout) {
  const int64_t examples = reached.size(0), size = reached.size(layout.axis + 1);
  at::Tensor along = reached.movedim(layout.axis + 1, 1);  // [examples, size, ...]
  if (along.dim() > 2) along = along.flatten(2).any(2);
  const auto reaches = along.accessor<bool, 2>();
  for (int64_t k = 0; k < examples; ++k)
    for (int64_t i = 0; i < size; ++i) {
      const int64_t owner = layout.order == Order::kExampleMajor ? i / (size / examples) : i % examples;
      if (reaches[k][i] && owner != k) return false;
    }
  return true;
}

}  // namespace

std::optional<std::vector<ExampleLayout>> fitting_layouts(const LayerCall& call,
                                                          const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> by_example;
  for (const at::Tensor& gradient : gradients)
    by_example.push_back(
        reached_positions(call, gradient.defined() ? gradient : at::zeros(call.output_shape, call.output_options)));
  const at::Tensor reached = at::stack(by_example).cpu();  // [examples, lead...]
  if (!reached.any().item<bool>()) return std::nullopt;

  // A convolution's and a batch norm's other axes are space; a convolution's examples cannot share theirs.
  const bool first_only = call.layer.kind == LayerKind::kConvolution || call.layer.kind == LayerKind::kBatchNorm;
  const int64_t examples = reached.size(0), axes = first_only ? 1 : reached.dim() - 1;
  std::vector<ExampleLayout> layouts;
  for (int64_t axis = 0; axis < axes; ++axis) {
    const int64_t size = reached.size(axis + 1);
    if (size < examples || size % examples != 0) continue;
    if (call.layer.kind == LayerKind::kBias && call.bias_view.sizes[static_cast<size_t>(axis)] != 1) continue;
    if (size > examples && call.layer.kind == LayerKind::kConvolution) continue;
    const std::vector<Order> orders =
        size == examples ? std::vector{Order::kOwnAxis} : std::vector{Order::kExampleMajor, Order::kPositionMajor};
    for (const Order order : orders)
      if (fits(reached, {order, axis})) layouts.push_back({order, axis});
  }
  return layouts;
}

LayerUse canonical_use(const LayerCall& call, const at::Tensor& gradient, const ExampleLayout& layout,
                       const Batch& batch, ObserverNeeds needs) {
  const auto rows = [&](const at::Tensor& tensor) {
    return rows_of(features_last(call, tensor), layout, batch.count, call.layer.name);
  };
  at::Tensor of_output = gradient;
  if (needs.gradients && !of_output.defined()) of_output = at::zeros(call.output_shape, call.output_options);

  LayerUse use;
  if (call.layer.kind == LayerKind::kBias) {
    if (needs.gradients) use.output_gradient = bias_gradient(call, of_output, layout, batch.count);
    return use;
  }
  if (needs.gradients) use.output_gradient = rows(of_output);
  if (needs.outputs) use.output = rows(call.output);
  switch (call.layer.kind) {
    case LayerKind::kConvolution:
      use.input = call.input;
      break;
    case LayerKind::kEmbedding:
      use.input = rows_of(call.input.unsqueeze(-1), layout, batch.count, call.layer.name).squeeze(-1);
      break;
    case LayerKind::kLayerNorm:
    case LayerKind::kBatchNorm:
      use.input = rows(normalised(call));
      break;
    default:
      use.input = rows(call.input);
  }

  const int64_t positions = c10::multiply_integers(call.output_shape) / (batch.count * call.layer.out);
  if (batch.mask.defined() && batch.mask.size(1) == positions) use.mask = batch.mask;
  if (needs.gradients && call.layer.kind == LayerKind::kEmbedding && call.padding_index >= 0)
    use.output_gradient = use.output_gradient.masked_fill(use.input.eq(call.padding_index).unsqueeze(2), 0);
  return use;
}

}  // namespace amalgam
