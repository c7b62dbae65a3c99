#pragma once

#include "models/reading.h"

namespace amalgam {

// Readers of the operators that put a parameter into an activation by adding it, joining it, or looking it up.

/// add(self, other, *, alpha), where one side is a parameter
Reading read_addition(Arguments arguments, const ParameterMap& parameters);

/// The same, written into `self`, which is not the parameter.
Reading read_addition_in_place(Arguments arguments, const ParameterMap& parameters);

/// cat(tensors, dim), where some of the tensors are parameters, such as a class token that was expanded
Reading read_cat(Arguments arguments, const ParameterMap& parameters);

/// repeat(self, repeats) of a parameter, along axes of size 1
Reading read_repeat(Arguments arguments, const ParameterMap& parameters);

/// embedding(weight, indices, padding_idx, scale_grad_by_freq, sparse)
Reading read_embedding(Arguments arguments, const ParameterMap& parameters);

}  // namespace amalgam
