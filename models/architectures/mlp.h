#pragma once

#include <torch/script.h>

#include <vector>

#include "core/options.h"

namespace amalgam {

struct MlpOptions {
  std::vector<int64_t> hidden = {64};

  void declare(OptionSet& set);
};

/// Linear layers with ReLU between them on the flattened input. Parameters: body.layers.<i>, head.
/// @param input_shape [channels, height, width]
torch::jit::Module mlp(const MlpOptions& options, const std::vector<int64_t>& input_shape, int64_t classes,
                       at::Generator& generator);

}  // namespace amalgam
