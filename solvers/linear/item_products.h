#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace amalgam {

/// Whether matrices [L, rows, columns] are as quick item by item as in one batch, so that items that have stopped can
/// be left out: on a CPU, from 128 x 128 elements (measured; docs/solvers.md).
bool multiplied_alone(const at::Tensor& matrices);

/// out = a b for these items; of the others `out` may be computed or left.
/// @param out, a, b  [L, rows, columns], [L, rows, k], [L, k, columns]
void multiply_items(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, const std::vector<int64_t>& items);

}  // namespace amalgam
