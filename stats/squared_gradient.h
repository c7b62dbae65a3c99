#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "core/layer_table.h"
#include "core/observation.h"

namespace amalgam {

/// Adds Σ_n (∂ loss_n / ∂ weight)² of one batch: the gradient of *each example*, over all its rows and all uses of the
/// layer, is squared. (The square of the batch's gradient is another number, and no Fisher information.) Masks play no
/// part: a row that does not count for a Gram matrix still has its share in an example's gradient.
///
///   linear, convolution   ∂ loss_n = Σ_t g_nt a_ntᵀ, a as `input_rows` has it
///   embedding             ∂ loss_n of row v = Σ_t g_nt over the positions t where index v stands
///   norms                 ∂ loss_n = Σ_t g_nt ⊙ x̂_nt
///
/// Uses without a gradient are those on which the loss does not depend; they add nothing.
/// @param squared      the whole parameter, contiguous; the layer's rows of it are added to
/// @param limit_bytes  temporaries hold at most as much at a time, but for single examples that need more
void add_squared_weight_gradient(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& squared,
                                 int64_t limit_bytes);

/// The same for a weight [V, d] that an embedding and a linear layer share: an example's gradient is E_n + H_n, the sum
/// over both layers, before it is squared. Σ (E + H)² = Σ E² + Σ H² + 2 Σ E ⊙ H, and E_n is zero but for the rows of
/// the tokens that example n holds: only those rows of H_n are made, [N, positions, d].
/// @param embedding, head  as `tied_weights` has them
void add_squared_tied_gradient(const Layer& embedding, const std::vector<LayerUse>& embedding_uses, const Layer& head,
                               const std::vector<LayerUse>& head_uses, at::Tensor& squared, int64_t limit_bytes);

/// Adds Σ_n (∂ loss_n / ∂ bias)², ∂ loss_n = Σ_t g_nt over all uses.
/// @param squared  the whole parameter, contiguous; the layer's rows of it are added to
void add_squared_bias_gradient(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& squared);

}  // namespace amalgam
