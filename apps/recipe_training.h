#pragma once

#include <string>

#include "apps/recipe.h"
#include "datasets/dataset.h"

namespace amalgam {

/// What a training asks of its data: one whole batch, and images where there is something to augment.
/// @param where  the section's place: "tasks.left.expert.train"
/// @throws InputError
void check_training_data(const TrainSpec& spec, const Dataset& data, const std::string& where);

}  // namespace amalgam
