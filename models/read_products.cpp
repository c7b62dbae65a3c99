#include "models/read_products.h"

#include <algorithm>
#include <utility>

#include "models/einsum_equation.h"

namespace amalgam {
namespace {

/// y = x matrixᵀ.
/// @param input      [lead..., in]
/// @param matrix     [out, in], a view of a parameter
/// @param unit_axes  of the output
/// @param argument   the weight
Reading read_product(const at::Tensor& input, const at::Tensor& matrix, std::vector<int64_t> unit_axes, size_t argument,
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
  LayerCall call = make_call(std::move(layer), input);
  call.unit_axes = std::move(unit_axes);
  return understood(std::move(call), argument);
}

/// The one matrix that a factor of a product is: as it is, or the same for all items of the batch; else undefined.
/// @param input  the other factor; its items must be as many as the output's
at::Tensor single_matrix(const at::Tensor& factor, const at::Tensor& input) {
  if (factor.dim() == 2) return factor;
  if (factor.dim() != 3 || input.dim() < 3) return {};
  const int64_t items = factor.size(0);
  const bool is_single = items == 1 || (items == input.size(-3) && factor.stride(0) == 0);
  return is_single ? factor[0] : at::Tensor();
}

/// The weight is on the right, [in, out], and the input [..., in].
Reading read_right(const at::Tensor& input, const at::Tensor& factor, size_t argument, const ParameterMap& parameters) {
  const at::Tensor weight = single_matrix(factor, input);
  return weight.defined() ? read_product(input, weight.t(), {input.dim() - 1}, argument, parameters) : Reading{};
}

/// The weight is on the left, [out, in], the input [..., in, columns], and the output [..., out, columns].
Reading read_left(const at::Tensor& factor, const at::Tensor& input, size_t argument, const ParameterMap& parameters) {
  if (input.dim() < 2) return not_understood("on one example without a batch axis");
  const at::Tensor weight = single_matrix(factor, input);
  if (!weight.defined()) return {};
  return read_product(input.transpose(-1, -2), weight, {input.dim() - 2}, argument, parameters);
}

/// @param left  the index of the left factor; the right one follows
Reading read_factors(Arguments arguments, size_t left, const ParameterMap& parameters) {
  const at::Tensor a = tensor_at(arguments, left), b = tensor_at(arguments, left + 1);
  const bool on_left = !parameters.overlapping(a).empty(), on_right = !parameters.overlapping(b).empty();
  if (on_left == on_right) return {};
  return on_right ? read_right(a, b, left + 1, parameters) : read_left(a, b, left, parameters);
}

/// A summand [1, out] or [1, 1, out] of one axis more than the parameter that it is, without these axes.
at::Tensor without_leading_ones(at::Tensor bias, int64_t axes) {
  while (bias.dim() > axes && (bias.size(0) == 1 || bias.stride(0) == 0)) bias = bias[0];
  return bias;
}

/// The summand of a product, where it is a parameter: the layer's bias, or one that is added by itself.
void read_summand(Reading& reading, Arguments arguments, int64_t output_axes, const ParameterMap& parameters) {
  const at::Tensor summand = tensor_at(arguments, 0);
  const auto* owner = parameters.owner(summand);
  if (owner == nullptr) return;
  const bool units_last = reading.calls[0].unit_axes == std::vector<int64_t>{output_axes - 1};
  if (units_last && read_bias(reading, 0, without_leading_ones(summand, owner->parameter.dim()), parameters)) return;
  if (!owner->parameter.is_contiguous()) return;
  reading.calls.push_back(make_bias_call(*owner, summand, output_axes));
  reading.understood.push_back(0);
}

}  // namespace

Reading read_linear(Arguments arguments, const ParameterMap& parameters) {
  const at::Tensor input = tensor_at(arguments, 0);
  Reading reading = read_product(input, tensor_at(arguments, 1), {input.dim() - 1}, 1, parameters);
  if (!reading.calls.empty()) read_bias(reading, 2, tensor_at(arguments, 2), parameters);
  return reading;
}

Reading read_added_product(Arguments arguments, const ParameterMap& parameters) {
  Reading reading = read_factors(arguments, 1, parameters);
  if (reading.calls.empty()) return reading;
  const auto is_one = [&](size_t index) { return arguments[index].toScalar().equal(1); };
  if (!is_one(4)) return not_understood("with alpha other than 1");
  if (is_one(3)) read_summand(reading, arguments, tensor_at(arguments, 1).dim(), parameters);
  return reading;
}

Reading read_matmul(Arguments arguments, const ParameterMap& parameters) {
  return read_factors(arguments, 0, parameters);
}

Reading read_einsum(Arguments arguments, const ParameterMap& parameters) {
  const auto operands = arguments[1].toTensorVector();
  if (operands.size() != 2) return not_understood("of other than two operands");
  const bool first = !parameters.overlapping(operands[0]).empty();
  if (first == !parameters.overlapping(operands[1]).empty()) return not_understood("of two parameters");
  const at::Tensor &weight = operands[first ? 0 : 1], &input = operands[first ? 1 : 0];
  const auto axes = product_axes(arguments[0].toStringRef(), weight, input, /*weight_first=*/first);
  if (!axes) return not_understood("other than a product with a matrix");

  const auto join = [](std::vector<int64_t> one, const std::vector<int64_t>& other) {
    one.insert(one.end(), other.begin(), other.end());
    return one;
  };
  const auto last = [](const at::Tensor& tensor, size_t count) {  // the last axes as one
    return tensor.flatten(-static_cast<int64_t>(count));
  };
  const size_t units = axes->weight_units.size(), sums = axes->weight_sums.size();
  const at::Tensor permuted = weight.permute(join(axes->weight_units, axes->weight_sums));
  const at::Tensor matrix = last(permuted, sums).flatten(0, static_cast<int64_t>(units) - 1);  // [out, in]
  if (!matrix.is_alias_of(weight)) return not_understood("on a weight whose axes are not in the order of its memory");
  const at::Tensor rows = last(input.detach().permute(join(axes->input_lead, axes->input_sums)), sums);
  Reading reading = read_product(rows, matrix, axes->output_units, 1, parameters);
  if (reading.calls.empty() && reading.limit.empty()) reading.limit = "on a weight that is not a matrix";
  return reading;
}

}  // namespace amalgam
