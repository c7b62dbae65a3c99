#pragma once

#include <vector>

#include "tests/models/tap_models.h"

namespace amalgam::test {

/// One model for each way in which a parameterised operator is met.
std::vector<TapModel> tap_model_zoo();

/// Those of them that multiply, join or look up parameters in the less common ways.
std::vector<TapModel> operator_models();

/// The one of that name.
TapModel zoo_model(const std::string& name);

}  // namespace amalgam::test
