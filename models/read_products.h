#pragma once

#include "models/reading.h"

namespace amalgam {

// Readers of the operators that multiply an activation by a weight matrix, or a range of its rows, stored [out, in] or
// [in, out].

/// linear(input, weight, bias?)
Reading read_linear(Arguments arguments, const ParameterMap& parameters);

/// addmm(self, mat1, mat2, *, beta, alpha) and baddbmm(self, batch1, batch2, *, beta, alpha): beta self + alpha a b.
/// The weight is either factor; for baddbmm all items of the batch have the same.
Reading read_added_product(Arguments arguments, const ParameterMap& parameters);

/// mm(a, b), matmul(a, b), bmm(a, b), with the weight on either side; for bmm all items of the batch have the same.
Reading read_matmul(Arguments arguments, const ParameterMap& parameters);

/// einsum(equation, operands, *, path) of two operands, where each axis of the weight is either summed over or one of
/// the output's alone, and the other axes of the activation all stay.
Reading read_einsum(Arguments arguments, const ParameterMap& parameters);

}  // namespace amalgam
