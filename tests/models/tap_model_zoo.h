#pragma once

#include <vector>

#include "tests/models/tap_models.h"

namespace amalgam::test {

/// One model for each way in which a parameterised operator is met.
std::vector<TapModel> tap_model_zoo();

/// The one of that name.
TapModel zoo_model(const std::string& name);

}  // namespace amalgam::test
