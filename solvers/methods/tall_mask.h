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

}  // namespace amalgam
