#pragma once

#include "models/reading.h"

namespace amalgam {

/// conv1d, conv2d, conv3d(input, weight, bias?, stride, padding, dilation, groups), also with padding as a word.
Reading read_convolution(Arguments arguments, const ParameterMap& parameters);

/// convolution(input, weight, bias?, stride, padding, dilation, transposed, output_padding, groups, …), as traces have
/// it. One that is transposed is not understood.
Reading read_traced_convolution(Arguments arguments, const ParameterMap& parameters);

}  // namespace amalgam
