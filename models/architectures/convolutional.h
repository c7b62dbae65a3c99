#pragma once

#include <torch/script.h>

#include <string>
#include <vector>

#include "core/options.h"

namespace amalgam {

struct ConvolutionalOptions {
  std::vector<int64_t> channels = {32, 64, 128};
  int64_t kernel = 3;
  bool separable = false;
  std::string norm = "none";

  void declare(OptionSet& set);
};

/// A small convolutional network: stages of convolution and ReLU, each but the first halving the image, the mean over
/// the positions, a linear head.
///
/// Parameters: body.stages.<i>.convolution, or with `separable`, from the second stage on, body.stages.<i>.depthwise (a
/// convolution of as many groups as channels) and .pointwise (1×1); with `norm: batch` body.stages.<i>.norm; head. A
/// convolution has a bias where no norm follows it.
/// @param input_shape [channels, height, width]
/// @throws InputError for an even kernel, or no stage at all
torch::jit::Module convolutional(const ConvolutionalOptions& options, const std::vector<int64_t>& input_shape,
                                 int64_t classes, at::Generator& generator);

}  // namespace amalgam
