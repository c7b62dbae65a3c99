#pragma once

#include <ATen/ATen.h>

namespace amalgam::detail {

/// The lower triangle of sum += xᵀ x by cuBLAS syrk, on the current stream; the upper one is left as it was.
/// @param x    [rows, n], contiguous, float32 or float64, on a GPU
/// @param sum  [n, n], contiguous, the same dtype and device
void add_lower_product_cuda(const at::Tensor& x, at::Tensor& sum);

}  // namespace amalgam::detail
