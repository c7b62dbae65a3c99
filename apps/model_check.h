#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>

#include "apps/recipe.h"
#include "datasets/dataset.h"
#include "models/runner.h"

namespace amalgam {

/// A task's model must take its data, and return an output that the targets fit: found by three examples, before
/// anything is trained.
/// @param open  makes the model
/// @throws InputError naming the task
void check_output(const std::function<std::unique_ptr<ModelRunner>()>& open, const TaskSpec& task, const Dataset& data,
                  at::Device device);

}  // namespace amalgam
