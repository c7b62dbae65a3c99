#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

#include "core/layer_table.h"
#include "core/observation.h"

namespace amalgam {

/// Whether the layer multiplies rows by a weight matrix: only such a layer has Gram matrices.
bool has_rows(const Layer& layer);

/// Whether the moments of the layer's output are collected: of what an affine map by channel can mend, so not of
/// embeddings.
bool has_moments(const Layer& layer);

/// Checks that the tensors of a use have the shapes and dtypes that core/observation.h promises for the layer.
/// @throws c10::Error naming the layer and what does not fit
void check_use(const Layer& layer, const LayerUse& use);

/// The examples [begin, begin + count) of a use.
LayerUse narrow(const LayerUse& use, int64_t begin, int64_t count);

/// N, the examples of a use.
int64_t examples_of(const LayerUse& use);

/// T, the rows of one example at the layer.
int64_t positions_of(const Layer& layer, const LayerUse& use);

/// float32 and float64 as they are, half precision as float32.
at::Tensor without_half_precision(const at::Tensor& x);

/// What the layer's weight matrix multiplies, half precision as float32: [groups, N, T, in].
///
/// A linear layer's input as it is (a view); a convolution's input patches: the component (c, k) of a row is channel c
/// of the group at kernel position k, in the order of the weight's own axes. The images of an example follow one
/// another.
at::Tensor input_rows(const Layer& layer, const at::Tensor& input);

/// Outputs, or gradients by them, by group, half precision as float32: [groups, N, T, out/groups], a view.
/// @param output  [N, T, out]
at::Tensor output_rows(const Layer& layer, const at::Tensor& output);

/// `rows` with zeros for those that the mask leaves out; no host round trip, unlike a selection.
/// @param rows  [..., N, T, d]
/// @param mask  bool [N, T], or undefined: all rows count
at::Tensor zero_unless_kept(const at::Tensor& rows, const at::Tensor& mask);

/// Calls `body(begin, count)` for consecutive ranges of examples that need at most `limit_bytes` of temporaries each,
/// but for single examples that need more.
template <class Body>
void for_each_chunk(int64_t examples, int64_t bytes_per_example, int64_t limit_bytes, Body body) {
  const int64_t most = std::max<int64_t>(1, limit_bytes / std::max<int64_t>(1, bytes_per_example));
  for (int64_t begin = 0; begin < examples; begin += most) body(begin, std::min(most, examples - begin));
}

}  // namespace amalgam
