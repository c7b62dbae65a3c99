#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/layer_table.h"
#include "core/observation.h"

namespace amalgam {

/// Whether a shape is that of one vector: every axis but at most one is of size 1, and it is not empty. So [n], a class
/// token [1, 1, n], and the [n, 1] that some adapters store.
bool is_vector(const std::vector<int64_t>& shape);

/// Whether a layer's parameter is one vector whose gradients are seen example by example as [N, n]: its bias, or the
/// weight of a norm or a scale. A weight matrix of one row or one column is none: its layer has Gram matrices.
/// @param parameter  the layer's weight or bias
/// @param shape      as stored; a bias may belong to several layers, slice by slice
bool is_vector(const Layer& layer, const std::string& parameter, const std::vector<int64_t>& shape);

/// The gradient of each example by the weight of a norm or a scale, over all its rows and all uses of the layer:
/// ∂ loss_n = Σ_t g_nt ⊙ x̂_nt, [N, out]. Masks play no part, as for squared gradients.
/// @param limit_bytes  temporaries hold at most as much at a time, but for single examples that need more
/// @return undefined where no use has a gradient
at::Tensor weight_vector_gradients(const Layer& layer, const std::vector<LayerUse>& uses, int64_t limit_bytes);

/// The gradient of each example by a layer's bias: ∂ loss_n = Σ_t g_nt over all uses, [N, out].
/// @return undefined where no use has a gradient
at::Tensor bias_gradients(const std::vector<LayerUse>& uses);

}  // namespace amalgam
