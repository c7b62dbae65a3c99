#pragma once

#include <torch/script.h>

#include <vector>

#include "core/options.h"

namespace amalgam {

struct VisionTransformerOptions {
  int64_t width = 96, depth = 4, heads = 4, patch = 7;
  double mlp_ratio = 2.0;

  void declare(OptionSet& set);
};

/// A small vision transformer: square patches as tokens, a linear embedding and a learned position, `depth` pre-norm
/// blocks of self-attention and a GELU network of width `mlp_ratio` · `width`, the mean over the tokens, a linear head.
///
/// Parameters: body.embedding, body.position, body.blocks.<i>.{attention_norm, attention.{query, key, value, output},
/// mlp_norm, mlp.{up, down}}, body.norm, head.
/// @param input_shape [channels, height, width]
/// @throws InputError if the patch does not divide the image, or the heads the width
/// @source Dosovitskiy et al. 2021
torch::jit::Module vision_transformer(const VisionTransformerOptions& options, const std::vector<int64_t>& input_shape,
                                      int64_t classes, at::Generator& generator);

}  // namespace amalgam
