#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// Experts, and the base where there is one, must share name, shape and dtype of every shared parameter and buffer.
/// @throws InputError with the number of differences and the first five
void check_experts(const MergeInput& input);

/// Statistics must be of this very expert.
/// @param expert_digest  `digest_of` the expert's parameters and buffers
/// @throws InputError naming both digests
void check_statistics(const Statistics& statistics, const std::string& expert_digest, const std::string& task);

/// Statistics of the base must be of this very base, and hold squared gradients or the inputs' Gram matrices.
/// @param base_digest  `digest_of` the base's parameters and buffers
/// @throws InputError naming both digests, or the kinds that are there
void check_base_statistics(const Statistics& statistics, const std::string& base_digest);

/// What the tasks' weights tell: a method may take no negative ones, or only so many tasks.
/// @throws InputError saying which
void check_weights(const MergeMethod& method, const std::vector<ExpertInput>& experts);

/// @param what  of whom and of what it is: "statistics of task 'left', layer 'fc': the input Gram matrix"
/// @throws InputError where a statistic holds a value that is not finite
void check_finite_statistic(const at::Tensor& statistic, const std::string& what);

/// Adapters, where the method merges those, must change the same weights in every expert.
/// @throws InputError naming the first weight, and the tasks
void check_adapters(const MergeMethod& method, const MergeInput& input);

/// Base, statistics, adapters, weights and the probe that the method cannot do without.
/// @throws InputError saying what is missing, of which task, and how to get it
void check_requirements(const MergeMethod& method, const MergeInput& input);

}  // namespace amalgam
