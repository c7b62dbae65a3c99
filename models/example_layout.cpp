#include "models/example_layout.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"

namespace amalgam {
namespace {

using Order = ExampleLayout::Order;

/// [lead..., units]: a tensor of the output's shape with the units last, on one axis.
at::Tensor units_last(const LayerCall& call, const at::Tensor& tensor) {
  if (call.unit_axes.empty()) return tensor.unsqueeze(-1);
  std::vector<int64_t> order;
  for (int64_t axis = 0; axis < tensor.dim(); ++axis)
    if (std::find(call.unit_axes.begin(), call.unit_axes.end(), axis) == call.unit_axes.end()) order.push_back(axis);
  order.insert(order.end(), call.unit_axes.begin(), call.unit_axes.end());
  return tensor.permute(order).flatten(-static_cast<int64_t>(call.unit_axes.size()));
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

/// Where the gradient is not zero, unit axes left out: bool [lead...].
at::Tensor reached_positions(const LayerCall& call, const at::Tensor& gradient) {
  const at::Tensor reached = gradient.ne(0);
  return call.layer.kind == LayerKind::kBias ? reached : units_last(call, reached).any(-1);
}

/// Whether the operator has the examples, or their images, on its first axis, channels on the second and space on the
/// others.
bool is_over_channels(LayerKind kind) {
  return kind == LayerKind::kConvolution || kind == LayerKind::kBatchNorm || kind == LayerKind::kGroupNorm ||
         kind == LayerKind::kInstanceNorm;
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

  const int64_t examples = reached.size(0), axes = is_over_channels(call.layer.kind) ? 1 : reached.dim() - 1;
  std::vector<ExampleLayout> layouts;
  for (int64_t axis = 0; axis < axes; ++axis) {
    const int64_t size = reached.size(axis + 1);
    if (size < examples || size % examples != 0) continue;
    if (call.layer.kind == LayerKind::kBias && call.bias_view.sizes[static_cast<size_t>(axis)] != 1) continue;
    const std::vector<Order> orders =
        size == examples ? std::vector{Order::kOwnAxis} : std::vector{Order::kExampleMajor, Order::kPositionMajor};
    for (const Order order : orders)
      if (fits(reached, {order, axis})) layouts.push_back({order, axis});
  }
  return layouts;
}

int64_t rows_of_example(const LayerCall& call, int64_t examples) {
  return c10::multiply_integers(call.output_shape) / (examples * call.layer.out);
}

LayerUse canonical_use(const LayerCall& call, const at::Tensor& gradient, const ExampleLayout& layout,
                       const Batch& batch, ObserverNeeds needs) {
  const auto rows = [&](const at::Tensor& tensor) {
    return rows_of(units_last(call, tensor), layout, batch.count, call.layer.name);
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
    case LayerKind::kLinear:
      use.input = rows_of(call.input, layout, batch.count, call.layer.name);
      break;
    case LayerKind::kConvolution:
      use.input = examples_first(call.input, layout, batch.count, call.layer.name);
      break;
    case LayerKind::kEmbedding:
      use.input = rows_of(call.input.unsqueeze(-1), layout, batch.count, call.layer.name).squeeze(-1).to(at::kLong);
      break;
    default:
      use.input = rows(call.normalise ? call.normalise(call.input) : call.input);
  }

  if (batch.mask.defined() && batch.mask.size(1) == rows_of_example(call, batch.count)) use.mask = batch.mask;
  if (needs.gradients && call.layer.kind == LayerKind::kEmbedding && call.padding_index >= 0)
    use.output_gradient = use.output_gradient.masked_fill(use.input.eq(call.padding_index).unsqueeze(2), 0);
  return use;
}

}  // namespace amalgam
