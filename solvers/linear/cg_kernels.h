#pragma once

#include <ATen/ATen.h>

namespace amalgam {

// The vector work of conjugate gradients on a batch [L, out, in] of float32 or float64, scalars float64 [L] on the same
// device. On a CPU each is one pass over memory in which items that do not move are skipped, summed in blocks of a
// fixed size, so that the result does not depend on the number of threads; on other devices a few ATen calls. `moves`
// is bool [L]: an item that does not move keeps every bit of its tensors, and its sums are not said.

/// ⟨a, b⟩ of each item.
at::Tensor dot(const at::Tensor& a, const at::Tensor& b, const at::Tensor& moves);

/// x += α p and r −= α k_p.
/// @return ⟨r, r⟩ of each item, afterwards
at::Tensor advance(at::Tensor& x, at::Tensor& r, const at::Tensor& p, const at::Tensor& k_p, const at::Tensor& alpha,
                   const at::Tensor& moves);

/// p = z + β p.
void turn(at::Tensor& p, const at::Tensor& z, const at::Tensor& beta, const at::Tensor& moves);

}  // namespace amalgam
