#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// Makes symmetric matrices positive semi-definite that are so but for the rounding of the sums they come from: adds to
/// the diagonal, in place, the least of 1e-9, 1e-8, … 1e-5 of the trace with which a matrix has a Cholesky
/// factorisation. A matrix that has one with 1e-10 of the trace, which is rounding in float64, stays as it is; so does
/// one that has none with 1e-5, which is no Gram matrix.
/// @param matrices  float64 [L, n, n]
/// @return what was added, relative to the trace: [L]
at::Tensor add_jitter(at::Tensor& matrices);

}  // namespace amalgam
