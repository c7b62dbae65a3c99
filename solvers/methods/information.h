#pragma once

#include <ATen/ATen.h>

#include <string>

#include "solvers/methods/method.h"

// The diagonal Fisher information of a parameter, as methods that merge element by element use it.
namespace amalgam {

/// What the report says of a parameter that is averaged because of `anyone_knows`.
inline constexpr const char* kAveragedUnknown = "averaged: no task has any information about it";

/// F_m, the mean over examples of the squared per-example gradient: float64, the parameter's shape.
/// @param whose  "task 'left'", "the base": for messages
/// @throws InputError if it is not of the parameter's shape
at::Tensor information(const Statistics& statistics, const std::string& whose, const TensorInfo& parameter,
                       const std::string& name, at::Device device);

/// F_m of an expert, no element below `floor` times its mean over the parameter.
at::Tensor floored_information(const ExpertInput& expert, const std::string& name, double floor, at::Device device);

/// Whether any task of positive weight has any information about a parameter: a squared gradient that is not zero.
bool anyone_knows(const MergeInput& input, const std::string& name);

}  // namespace amalgam
