#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "core/layer_table.h"
#include "core/observation.h"

namespace amalgam {

/// rows += the number of rows of a use that the mask keeps.
/// @param rows  int64 [], on the use's device
void add_row_count(const Layer& layer, const LayerUse& use, at::Tensor& rows);

// Gram matrices grow on and below their diagonals only; `mirror_lower_triangle` (core/symmetric_product.h) makes them
// whole, or their blocks, once at the end.

/// gram += Σ x xᵀ over the rows of x, as much of it as is kept.
/// @param x      [groups, rows, n]
/// @param gram   whole: [n, n] or [groups, n, n]; else as Note [Statistics file] has blocks
/// @param block  width of the blocks on the diagonal that are kept; 1: the diagonal; 0: the whole matrix
void add_gram(const at::Tensor& x, at::Tensor& gram, int64_t block);

/// gram += Σ a aᵀ and sum += Σ a over the rows that the mask keeps; a as `input_rows` has it, without a bias component.
/// For a layer with has_rows(layer).
/// @param gram   [in, in], or [groups, in, in] for a convolution of more than one group; or in blocks
/// @param sum    [in], or [groups, in]
/// @param limit_bytes  temporaries hold at most as much at a time, but for single examples that need more
/// @param block  as for `add_gram`
void add_input_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, at::Tensor& sum, int64_t limit_bytes,
                    int64_t block = 0);

/// gram += Σ g gᵀ over the rows that the mask keeps, g the gradient of the summed loss by the layer's output.
/// For a layer with has_rows(layer).
/// @param gram  [out, out], or [groups, out/groups, out/groups]; or in blocks
void add_output_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, int64_t limit_bytes, int64_t block = 0);

// The reduced form (K-FAC `reduce`): an example is one observation, over all uses of the layer.

/// rows += the number of examples with a row that counts.
void add_reduced_row_count(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& rows);

/// gram += Σ ā āᵀ and sum += Σ ā, ā_n the mean of the rows of example n that the mask keeps; examples without one are
/// left out.
void add_reduced_input_gram(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& gram, at::Tensor& sum,
                            int64_t limit_bytes, int64_t block = 0);

/// gram += Σ ḡ ḡᵀ, ḡ_n = Σ_t g_nt over the rows that the mask keeps. Uses without a gradient add nothing.
void add_reduced_output_gram(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& gram,
                             int64_t limit_bytes, int64_t block = 0);

}  // namespace amalgam
