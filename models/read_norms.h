#pragma once

#include "models/reading.h"

namespace amalgam {

// Readers of the operators that multiply an activation by a weight, element by element.

/// layer_norm(input, normalized_shape, weight?, bias?, eps, cudnn_enable)
Reading read_layer_norm(Arguments arguments, const ParameterMap& parameters);

/// rms_norm(input, normalized_shape, weight?, eps?)
Reading read_rms_norm(Arguments arguments, const ParameterMap& parameters);

/// group_norm(input, num_groups, weight?, bias?, eps, cudnn_enabled)
Reading read_group_norm(Arguments arguments, const ParameterMap& parameters);

/// instance_norm(input, weight?, bias?, running_mean?, running_var?, use_input_stats, momentum, eps, cudnn_enabled)
Reading read_instance_norm(Arguments arguments, const ParameterMap& parameters);

/// batch_norm(input, weight?, bias?, running_mean?, running_var?, training, momentum, eps, cudnn_enabled), in
/// evaluation mode
Reading read_batch_norm(Arguments arguments, const ParameterMap& parameters);

/// mul(self, other), where one side is a parameter, whole, in the order of its memory, and broadcast over other axes
Reading read_multiplication(Arguments arguments, const ParameterMap& parameters);

/// The same, written into `self`, which is not the parameter.
Reading read_multiplication_in_place(Arguments arguments, const ParameterMap& parameters);

}  // namespace amalgam
