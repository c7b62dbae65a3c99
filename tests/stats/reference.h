#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/layer_table.h"
#include "core/observation.h"

/// What the tests of this room compare with: loops over one row at a time and autograd of one example at a time, both
/// in float64, and layers and observations made by hand.
namespace amalgam::reference {

constexpr double kFloat32Epsilon = std::numeric_limits<float>::epsilon();
constexpr double kFloat64Epsilon = std::numeric_limits<double>::epsilon();

/// Standard normal, float64; the same for the same seed.
inline at::Tensor random(std::vector<int64_t> shape, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::kDouble);
}

inline at::Tensor random_indices(int64_t below, std::vector<int64_t> shape, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randint(below, shape, generator, at::kLong);
}

/// No element is off by more than `bound` times the largest expected one.
inline void expect_close(const at::Tensor& actual, const at::Tensor& expected, double bound) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  if (expected.numel() == 0) return;
  const double difference = (actual.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
  EXPECT_LE(difference, bound * expected.to(at::kDouble).abs().max().item<double>());
}

inline LayerUse use_of(const at::Tensor& input, const at::Tensor& output_gradient = {}, const at::Tensor& mask = {},
                       const at::Tensor& output = {}) {
  return {.input = input, .output = output, .output_gradient = output_gradient, .mask = mask};
}

inline Layer linear(int64_t out, int64_t in, const std::string& name = "fc") {
  Layer layer;
  layer.name = layer.input_of = name;
  layer.weight = name + ".weight";
  layer.bias = name + ".bias";
  layer.row_end = layer.out = out;
  layer.in = in;
  return layer;
}

struct Window {
  std::vector<int64_t> kernel, stride, padding, dilation;
};

inline Layer convolution(int64_t out, int64_t channels, int64_t groups, const Window& window,
                         const std::string& name = "conv") {
  Layer layer = linear(out, channels / groups, name);
  layer.kind = LayerKind::kConvolution;
  for (const int64_t size : window.kernel) layer.in *= size;
  layer.groups = groups;
  layer.kernel = window.kernel;
  layer.stride = window.stride;
  layer.padding = window.padding;
  layer.dilation = window.dilation;
  return layer;
}

/// @param width  columns of the stored [entries, width]
inline Layer embedding(int64_t entries, int64_t width, const std::string& name = "embedding") {
  Layer layer = linear(width, entries, name);
  layer.kind = LayerKind::kEmbedding;
  layer.transposed = true;
  layer.bias.clear();
  return layer;
}

inline Layer norm(LayerKind kind, int64_t out, const std::string& name = "norm") {
  Layer layer = linear(out, 1, name);
  layer.kind = kind;
  return layer;
}

inline Layer bias(int64_t elements, const std::string& name = "position") {
  Layer layer = linear(elements, 1, name);
  layer.kind = LayerKind::kBias;
  layer.weight.clear();
  layer.bias = name;
  return layer;
}

/// [channels, spatial...] of one example as one matrix a group and position, element by element: the value under kernel
/// position k of channel c at output position o is input[c][o stride + k dilation - padding], 0 outside.
/// @returns [groups, T, in]
inline at::Tensor naive_patches(const Layer& layer, const at::Tensor& input) {
  const size_t axes = layer.kernel.size();
  std::vector<int64_t> positions;
  int64_t total = 1;
  for (size_t i = 0; i < axes; ++i) {
    positions.push_back((input.size(static_cast<int64_t>(i) + 1) + 2 * layer.padding[i] -
                         layer.dilation[i] * (layer.kernel[i] - 1) - 1) /
                            layer.stride[i] +
                        1);
    total *= positions.back();
  }
  const at::Tensor result = at::zeros({layer.groups, total, layer.in}, at::kDouble);
  int64_t kernel = 1;
  for (const int64_t size : layer.kernel) kernel *= size;
  for (int64_t g = 0; g < layer.groups; ++g)
    for (int64_t t = 0; t < total; ++t)
      for (int64_t column = 0; column < layer.in; ++column) {
        const int64_t channels = layer.in / kernel;
        at::Tensor at_point = input[g * channels + column / kernel];
        int64_t rest_t = t, rest_k = column % kernel;
        std::vector<int64_t> point(axes);
        bool inside = true;
        for (size_t i = axes; i-- > 0;) {
          point[i] =
              rest_t % positions[i] * layer.stride[i] + rest_k % layer.kernel[i] * layer.dilation[i] - layer.padding[i];
          inside = inside && point[i] >= 0 && point[i] < input.size(static_cast<int64_t>(i) + 1);
          rest_t /= positions[i];
          rest_k /= layer.kernel[i];
        }
        if (!inside) continue;
        for (const int64_t coordinate : point) at_point = at_point[coordinate];
        result[g][t][column] = at_point;
      }
  return result;
}

/// Σ over the kept rows of x xᵀ. @param rows [N, T, n], float64; @param mask [N, T] or undefined
inline at::Tensor naive_gram(const at::Tensor& rows, const at::Tensor& mask) {
  const int64_t n = rows.size(2);
  const at::Tensor gram = at::zeros({n, n}, at::kDouble), contiguous = rows.contiguous();
  auto sum = gram.accessor<double, 2>();
  const auto x = contiguous.accessor<double, 3>();
  for (int64_t example = 0; example < rows.size(0); ++example)
    for (int64_t t = 0; t < rows.size(1); ++t) {
      if (mask.defined() && !mask[example][t].item<bool>()) continue;
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) sum[i][j] += x[example][t][i] * x[example][t][j];
    }
  return gram;
}

/// Σ over the kept rows of x, one row at a time.
inline at::Tensor naive_sum(const at::Tensor& rows, const at::Tensor& mask) {
  const at::Tensor sum = at::zeros({rows.size(2)}, at::kDouble);
  for (int64_t example = 0; example < rows.size(0); ++example)
    for (int64_t t = 0; t < rows.size(1); ++t)
      if (!mask.defined() || mask[example][t].item<bool>()) sum.add_(rows[example][t]);
  return sum;
}

/// Σ_n (∂ loss(parameter, n) / ∂ parameter)², one example at a time by autograd.
inline at::Tensor squared_by_autograd(const at::Tensor& parameter, int64_t examples,
                                      const std::function<at::Tensor(const at::Tensor&, int64_t)>& loss) {
  at::Tensor squares = at::zeros_like(parameter);
  for (int64_t n = 0; n < examples; ++n) {
    const at::Tensor leaf = parameter.detach().clone().requires_grad_();
    loss(leaf, n).backward();
    squares += leaf.grad().square();
  }
  return squares;
}

}  // namespace amalgam::reference
