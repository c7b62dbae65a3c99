#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// Whether every value is finite: in one pass over memory where the values lie in the CPU's, one after the other.
/// @param values  floating, of any shape, on any device
bool all_finite(const at::Tensor& values);

}  // namespace amalgam
