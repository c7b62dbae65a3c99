#pragma once

#include <string>
#include <vector>

#include "apps/recipe.h"
#include "datasets/dataset.h"

namespace amalgam {

/// What a training asks of its data: one whole batch, and images where there is something to augment.
/// @param where  the section's place: "tasks.left.expert.train"
/// @throws InputError
void check_training_data(const TrainSpec& spec, const Dataset& data, const std::string& where);

/// Every pattern of `trainable` must name a parameter.
/// @param parameters  of the model that is trained
/// @throws InputError
void check_trainable(const TrainSpec& spec, const std::vector<std::string>& parameters, const std::string& where);

}  // namespace amalgam
