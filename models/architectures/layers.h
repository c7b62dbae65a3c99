#pragma once

#include <torch/script.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace amalgam {

/// The parts that architectures are put together from: TorchScript modules made without Python. A part is called as
/// `self.part.forward(x)`; biases start at zero.

/// Normal (0, deviation²), cut at two deviations.
at::Tensor truncated_normal(at::IntArrayRef shape, double deviation, at::Generator& generator);
/// Normal (0, 2 / inputs of one output unit), for layers before a ReLU.
/// @source He et al. 2015
at::Tensor kaiming_normal(at::IntArrayRef shape, at::Generator& generator);

/// A module with nothing in it but the `training` flag.
torch::jit::Module empty_module(const std::string& type);

/// y = W x + b, `weight` [out, in].
torch::jit::Module linear_layer(const at::Tensor& weight);
/// Over the last axis, ε 1e-5.
torch::jit::Module layer_norm(int64_t width);
struct ConvolutionShape {
  int64_t stride = 1, groups = 1;
  bool bias = true;
};
/// `weight` [out, in/groups, k, k] with odd k, padded so that stride 1 keeps the size.
torch::jit::Module convolution_layer(const at::Tensor& weight, const ConvolutionShape& shape);
/// Over the second axis of [N, channels, height, width]; momentum 0.1, ε 1e-5.
torch::jit::Module batch_norm(int64_t channels);

/// Runs the parts in turn. After each, `after` is applied to its output: an expression in x ("torch.relu(x)"), or
/// empty.
using NamedModules = std::vector<std::pair<std::string, torch::jit::Module>>;
torch::jit::Module sequence(const std::string& type, const NamedModules& parts, const std::string& after = {});

/// What every architecture is: `body` makes [N, width] features, `head` makes [N, classes] of them.
torch::jit::Module classifier(const std::string& type, const torch::jit::Module& body, int64_t width, int64_t classes,
                              at::Generator& generator);

}  // namespace amalgam
