#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// squared += Σ_n (Σ_t g_nt a_ntᵀ)²: the matrix of each n is summed over t, squared by element, and summed over n.
///
/// On the CPU in float32 no matrix of an n is ever in memory: a tile of it lives in registers, is squared there, and is
/// added up over at most `kSquaredRun` n before it goes into `squared`. At a few t this is many times quicker than a
/// batched product, which has to write and read every matrix. Elsewhere it is that batched product.
/// @param g        [N, T, out], float32 or float64
/// @param a        [N, T, in], of g's dtype and device
/// @param squared  [out, in], float32 or float64, on the same device; it may be a view of any strides
/// @throws c10::Error if shapes, devices or dtypes disagree
void add_squared_products(const at::Tensor& g, const at::Tensor& a, at::Tensor squared);

/// So many squares are added in float32 at a time: of numbers that are not negative, so their sum is off by that many
/// units of epsilon at most.
inline constexpr int64_t kSquaredRun = 32;

/// Whether `add_squared_products` takes the way without matrices in memory.
bool has_fused_squared_product(const at::Tensor& g);

}  // namespace amalgam
