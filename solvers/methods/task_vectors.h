#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// What fine-tuning changed in one parameter: d_m = θ_m − θ0, one an expert in the order of `input.experts`, each of
/// the parameter's shape on `input.device`, float64 where it is stored so, else float32. Weights α are not applied.
/// @throws c10::Error if there is no base
std::vector<at::Tensor> task_vectors(const MergeInput& input, const std::string& name);

}  // namespace amalgam
