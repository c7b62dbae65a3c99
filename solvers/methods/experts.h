#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// The experts that have a say, those of a weight other than zero, in the input's order. A negative one is there only
/// where the method takes such weights.
std::vector<ExpertInput> heard_experts(const MergeInput& input);

/// The position of the expert of a task that an option names.
/// @param where  the option, for messages
/// @throws InputError naming the nearest task where there is no such task
size_t expert_of_task(const std::vector<ExpertInput>& experts, const std::string& task, const std::string& where);

}  // namespace amalgam
