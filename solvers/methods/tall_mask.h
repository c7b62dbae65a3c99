#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// Where a task finds what it needs in the sum of all tasks' changes: |d_m| > λ |d_MT − d_m|, element by element. θ0 +
/// mask ⊙ d_MT is then close to the task's own expert, and one bit an element is all that it takes.
/// @param change      d_m, the task's share of `multi_task`
/// @param multi_task  d_MT = Σ d_m, of the same shape
/// @param scale       λ, not negative; the larger, the fewer elements
/// @return bool, of the same shape
/// @source Wang et al. 2024, Localizing Task Information for Improved Model Merging and Compression (TALL masks), eq. 5
at::Tensor tall_mask(const at::Tensor& change, const at::Tensor& multi_task, double scale);

/// A mask, eight elements a byte: element i, in row-major order, is bit i mod 8 (the lowest first) of byte ⌊i/8⌋; the
/// bits after the last element are zero.
/// @param mask  bool
/// @return uint8 [⌈n/8⌉], on the mask's device
at::Tensor pack_bits(const at::Tensor& mask);

/// The mask that was packed.
/// @param packed  uint8 [⌈n/8⌉], n the product of `sizes`
/// @return bool, of shape `sizes`
/// @throws InputError if there is another number of bytes, or a bit is set after the last element
at::Tensor unpack_bits(const at::Tensor& packed, at::IntArrayRef sizes);

}  // namespace amalgam
