#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "core/layer_table.h"
#include "core/observation.h"

namespace amalgam {

/// sum += Σ y and square_sum += Σ y² by unit, over the rows that the mask keeps; y the layer's output before any
/// activation. Squares are taken in float64: a variance is a difference of these sums.
/// @param sum, square_sum  [out]
/// @param limit_bytes      temporaries hold at most as much at a time, but for single examples that need more
void add_moments(const Layer& layer, const LayerUse& use, at::Tensor& sum, at::Tensor& square_sum, int64_t limit_bytes);

}  // namespace amalgam
