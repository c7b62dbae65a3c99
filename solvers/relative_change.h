#pragma once

#include <map>
#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// How far each expert moved from the base: ‖θ_m − θ0‖ / ‖θ0‖ of every floating shared parameter, one value an expert,
/// in float64. Where θ0 is zero, ‖θ_m‖. Needs the base.
std::map<std::string, std::vector<double>> relative_changes(const MergeInput& input);

}  // namespace amalgam
