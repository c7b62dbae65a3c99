#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// Makes symmetric matrices positive semi-definite that are so but for the rounding of the sums they come from: adds to
/// the diagonal, in place, the least of 1e-9, 1e-8, … 1e-5 of the trace with which a matrix has a Cholesky
/// factorisation. A matrix that has one with 1e-10 of the trace, which is rounding in float64, stays as it is; so does
/// one that has none with 1e-5, which is no Gram matrix. Directions that are known to be unseen stay so: what is added
/// is a multiple of I − Π.
/// @param matrices  float64 [L, n, n]
/// @param unseen    Π [L, n, n], a projector whose range the matrices have no part in; undefined: zero
/// @return what was added, relative to the trace: [L]
at::Tensor add_jitter(at::Tensor& matrices, const at::Tensor& unseen = {});

}  // namespace amalgam
