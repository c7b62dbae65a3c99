#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "core/layer_table.h"
#include "core/observation.h"

namespace amalgam {

/// rows += the number of rows of a use that the mask keeps.
/// @param rows  int64 [], on the use's device
void add_row_count(const Layer& layer, const LayerUse& use, at::Tensor& rows);

/// gram += Σ a aᵀ and sum += Σ a over the rows that the mask keeps; a as `input_rows` has it, without a bias component.
/// For a layer with has_rows(layer).
/// @param gram  [in, in], or [groups, in, in] for a convolution of more than one group
/// @param sum   [in], or [groups, in]
/// @param limit_bytes  temporaries hold at most as much at a time, but for single examples that need more
void add_input_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, at::Tensor& sum, int64_t limit_bytes);

/// gram += Σ g gᵀ over the rows that the mask keeps, g the gradient of the summed loss by the layer's output.
/// For a layer with has_rows(layer).
/// @param gram  [out, out], or [groups, out/groups, out/groups]
void add_output_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, int64_t limit_bytes);

}  // namespace amalgam
