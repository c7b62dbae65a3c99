#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// The rank of each value within its row, 0 the smallest; of equal ones the earlier counts as smaller. By a radix sort
/// of the bits, which are in the order of the values as long as none is negative.
/// @param values  [rows, n], floating, none below zero; compared in float32
/// @return [rows, n], int32, on the CPU
at::Tensor ranks_in_rows(const at::Tensor& values);

}  // namespace amalgam
