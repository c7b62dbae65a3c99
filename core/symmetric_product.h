#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace amalgam {

/// Products in float32 that go into a float64 sum are cut after this many rows: a product of a few thousand rows is off
/// by a few units of float32's epsilon, and only longer ones would drift.
inline constexpr int64_t kChunkRows = 4096;

/// sum += xᵀ x on and below the diagonal, at about half the cost of a full product. What stands above the diagonal has
/// no meaning until `mirror_lower_triangle`, once, after all sums: so half of `sum` is passed over each time.
///
/// On a GPU: cuBLAS syrk. On the CPU: products of strips up to the diagonal. Where `sum` is float64 and `x` float32,
/// products run in float32 over chunks of `kChunkRows` rows that are added in float64.
/// @param x    [rows, n] or [groups, rows, n], float32 or float64
/// @param sum  [n, n] or [groups, n, n], contiguous, on the same device, of the dtype of x or float64
/// @throws c10::Error if shapes, devices or dtypes disagree
void add_lower_product(const at::Tensor& x, at::Tensor& sum);

/// Puts the lower triangle of sum [..., n, n] in place of the upper one: exactly symmetric.
void mirror_lower_triangle(at::Tensor sum);

}  // namespace amalgam
