#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// What fine-tuning changed in one parameter of one expert: θ_m − θ0, of the parameter's shape on `device`, float64
/// where it is stored so, else float32.
/// @throws InputError if a change is not finite: whatever leaves out some of them would hide it
at::Tensor task_vector(const TensorSource& base, const ExpertInput& expert, const std::string& name, at::Device device);

/// What fine-tuning changed in one parameter: d_m = θ_m − θ0, one an expert in the order of `input.experts`, each of
/// the parameter's shape on `input.device`, float64 where it is stored so, else float32. Weights α are not applied.
/// @throws c10::Error if there is no base
/// @throws InputError as `task_vector`
std::vector<at::Tensor> task_vectors(const MergeInput& input, const std::string& name);

/// The changes of the tasks that have a say, and their weights.
struct HeardVectors {
  std::vector<at::Tensor> changes;
  std::vector<double> weights;  ///< α, none of them zero
};

/// Of `task_vectors` those with a weight other than zero.
HeardVectors heard_task_vectors(const MergeInput& input, const std::string& name);

/// The parameters that a method which merges parameters one by one gets to see: those that its `apply_to` and `except`
/// leave it and that hold floating values. They are what "the whole model" means where a method looks at all of it.
std::vector<std::string> merged_parameters(const MergeMethod& method, const MergeInput& input);

/// How many elements these parameters have together.
int64_t count_elements(const MergeInput& input, const std::vector<std::string>& names);

}  // namespace amalgam
