#include "stats/rows.h"

#include <functional>
#include <numeric>
#include <vector>

namespace amalgam {
namespace {

int64_t kernel_size(const Layer& layer) {
  return std::accumulate(layer.kernel.begin(), layer.kernel.end(), int64_t{1}, std::multiplies<>());
}

// The part of the padded axis that one position of the kernel's window spans.
int64_t window(const Layer& layer, size_t axis) { return (layer.kernel[axis] - 1) * layer.dilation[axis] + 1; }

// Of a convolution's input: whether each example has several images, [N, images, channels, spatial...].
bool has_images(const Layer& layer, const at::Tensor& input) {
  return input.dim() == 3 + static_cast<int64_t>(layer.kernel.size());
}

// [N, channels, spatial...] -> [groups, N, T, channels/groups * kernel], by a strided view and one copy.
at::Tensor patches(const Layer& layer, const at::Tensor& input) {
  const auto axes = static_cast<int64_t>(layer.kernel.size());
  std::vector<int64_t> padding;  // both sides of each axis, the last axis first
  for (auto pad = layer.padding.rbegin(); pad != layer.padding.rend(); ++pad)
    padding.insert(padding.end(), {*pad, *pad});
  at::Tensor view = at::constant_pad_nd(input, padding).unflatten(1, {layer.groups, input.size(1) / layer.groups});
  for (size_t axis = 0; axis < layer.kernel.size(); ++axis)
    view = view.unfold(3 + static_cast<int64_t>(axis), window(layer, axis), layer.stride[axis])
               .slice(-1, 0, std::nullopt, layer.dilation[axis]);
  // [N, groups, channels/groups, positions..., kernel...] -> [groups, N, positions..., channels/groups, kernel...]
  std::vector<int64_t> order = {1, 0};
  for (int64_t axis = 0; axis < axes; ++axis) order.push_back(3 + axis);
  order.push_back(2);
  for (int64_t axis = 0; axis < axes; ++axis) order.push_back(3 + axes + axis);
  return view.permute(order).reshape({layer.groups, input.size(0), -1, layer.in});
}

void check_input(const Layer& layer, const LayerUse& use) {
  const at::Tensor& input = use.input;
  if (layer.kind == LayerKind::kBias) return;
  TORCH_CHECK(input.defined(), "layer '", layer.name, "': there is no input");
  const bool is_index = layer.kind == LayerKind::kEmbedding;
  TORCH_CHECK(is_index ? input.scalar_type() == at::kLong : input.is_floating_point(), "layer '", layer.name,
              "': the input must be ", is_index ? "int64" : "floating", ", but is ", input.scalar_type());
  if (layer.kind == LayerKind::kConvolution) {
    const size_t axes = layer.kernel.size();
    TORCH_CHECK(
        axes > 0 && layer.stride.size() == axes && layer.padding.size() == axes && layer.dilation.size() == axes,
        "layer '", layer.name, "': kernel, stride, padding and dilation need one value each spatial axis");
    const int64_t channels = layer.groups * layer.in / kernel_size(layer);
    const int64_t leading = has_images(layer, input) ? 2 : 1;
    TORCH_CHECK(input.dim() == leading + 1 + static_cast<int64_t>(axes) && input.size(leading) == channels, "layer '",
                layer.name, "': the input must be [N, ", channels, "] or [N, images, ", channels, "], and ", axes,
                " spatial axes, but is ", input.sizes());
  } else if (is_index) {
    TORCH_CHECK(input.dim() == 2, "layer '", layer.name, "': the input must be [N, T], but is ", input.sizes());
  } else {
    const int64_t columns = layer.kind == LayerKind::kLinear ? layer.in : layer.out;
    TORCH_CHECK(input.dim() == 3 && input.size(2) == columns, "layer '", layer.name, "': the input must be [N, T, ",
                columns, "], but is ", input.sizes());
  }
}

void check_output(const Layer& layer, const LayerUse& use, const at::Tensor& output, const char* what) {
  if (!output.defined()) return;
  const std::vector<int64_t> expected = {examples_of(use), positions_of(layer, use), layer.out};
  TORCH_CHECK(output.is_floating_point() && output.sizes() == expected, "layer '", layer.name, "': the ", what,
              " must be floating ", expected, ", but is ", output.scalar_type(), " ", output.sizes());
}

}  // namespace

bool has_rows(const Layer& layer) { return layer.kind == LayerKind::kLinear || layer.kind == LayerKind::kConvolution; }

bool has_moments(const Layer& layer) { return layer.kind != LayerKind::kEmbedding && layer.kind != LayerKind::kBias; }

void check_use(const Layer& layer, const LayerUse& use) {
  check_input(layer, use);
  check_output(layer, use, use.output, "output");
  check_output(layer, use, use.output_gradient, "gradient by the output");
  if (!use.mask.defined() || layer.kind == LayerKind::kBias) return;
  const std::vector<int64_t> expected = {examples_of(use), positions_of(layer, use)};
  TORCH_CHECK(use.mask.scalar_type() == at::kBool && use.mask.sizes() == expected, "layer '", layer.name,
              "': the mask must be bool ", expected, ", but is ", use.mask.scalar_type(), " ", use.mask.sizes());
}

LayerUse narrow(const LayerUse& use, int64_t begin, int64_t count) {
  const auto part = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.narrow(0, begin, count) : at::Tensor();
  };
  return {part(use.input), part(use.output), part(use.output_gradient), part(use.mask)};
}

int64_t examples_of(const LayerUse& use) {
  if (use.input.defined()) return use.input.size(0);
  return use.output_gradient.defined() ? use.output_gradient.size(0) : 0;
}

int64_t positions_of(const Layer& layer, const LayerUse& use) {
  if (layer.kind == LayerKind::kBias) return 1;
  if (layer.kind != LayerKind::kConvolution) return use.input.size(1);
  const bool several = has_images(layer, use.input);
  int64_t positions = several ? use.input.size(1) : 1;
  for (size_t axis = 0; axis < layer.kernel.size(); ++axis) {
    const int64_t padded = use.input.size((several ? 3 : 2) + static_cast<int64_t>(axis)) + 2 * layer.padding[axis];
    positions *= (padded - window(layer, axis)) / layer.stride[axis] + 1;
  }
  return positions;
}

at::Tensor without_half_precision(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

at::Tensor input_rows(const Layer& layer, const at::Tensor& input) {
  const at::Tensor x = without_half_precision(input);
  if (layer.kind != LayerKind::kConvolution) return x.unsqueeze(0);
  if (!has_images(layer, x)) return patches(layer, x);
  return patches(layer, x.flatten(0, 1)).unflatten(1, {x.size(0), x.size(1)}).flatten(2, 3);
}

at::Tensor output_rows(const Layer& layer, const at::Tensor& output) {
  return without_half_precision(output).unflatten(2, {layer.groups, layer.out / layer.groups}).permute({2, 0, 1, 3});
}

at::Tensor zero_unless_kept(const at::Tensor& rows, const at::Tensor& mask) {
  return mask.defined() ? rows.masked_fill(mask.logical_not().unsqueeze(-1), 0) : rows;
}

}  // namespace amalgam
