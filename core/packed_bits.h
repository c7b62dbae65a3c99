#pragma once

#include <ATen/ATen.h>

namespace amalgam {

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
