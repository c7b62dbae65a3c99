#include "models/architectures/convolutional.h"

#include "core/error.h"
#include "models/architectures/layers.h"

namespace amalgam {
namespace {

using torch::jit::Module;

/// @param in, out, stride channels and stride of the stage
Module stage(const ConvolutionalOptions& options, int64_t in, int64_t out, int64_t stride, bool separable,
             at::Generator& generator) {
  const int64_t kernel = options.kernel;
  const bool norm = options.norm == "batch";
  NamedModules parts;
  if (separable) {
    parts.emplace_back("depthwise", convolution_layer(kaiming_normal({in, 1, kernel, kernel}, generator),
                                                      {.stride = stride, .groups = in}));
    parts.emplace_back("pointwise", convolution_layer(kaiming_normal({out, in, 1, 1}, generator), {.bias = !norm}));
  } else {
    parts.emplace_back("convolution", convolution_layer(kaiming_normal({out, in, kernel, kernel}, generator),
                                                        {.stride = stride, .bias = !norm}));
  }
  if (norm) parts.emplace_back("norm", batch_norm(out));
  return sequence("Stage", parts);
}

}  // namespace

void ConvolutionalOptions::declare(OptionSet& set) {
  set.integers("channels", channels, {1, 1 << 16}, "channels of each stage");
  set.integer("kernel", kernel, {1, 101}, "side of the kernel, odd");
  set.flag("separable", separable,
           "from the second stage on, a depthwise convolution and a 1x1 one in place of a full one");
  set.choice("norm", norm, {"none", "batch"}, "normalisation before each ReLU");
}

Module convolutional(const ConvolutionalOptions& options, const std::vector<int64_t>& input_shape, int64_t classes,
                     at::Generator& generator) {
  require_input(options.kernel % 2 == 1, "convolutional: kernel {} is even; choose an odd one", options.kernel);
  require_input(!options.channels.empty(), "convolutional: 'channels' is empty; give at least one stage");
  NamedModules stages;
  int64_t in = input_shape.at(0);
  for (size_t i = 0; i < options.channels.size(); ++i) {
    const int64_t out = options.channels[i];
    stages.emplace_back(std::to_string(i),
                        stage(options, in, out, i == 0 ? 1 : 2, options.separable && i > 0, generator));
    in = out;
  }
  Module body = empty_module("Body");
  body.register_module("stages", sequence("Stages", stages, "torch.relu(x)"));
  body.define(R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.mean(self.stages.forward(x), [2, 3])
)");
  return classifier("Convolutional", body, in, classes, generator);
}

}  // namespace amalgam
