#pragma once

#include <nlohmann/json_fwd.hpp>

#include "solvers/methods/method.h"

namespace amalgam {

/// A layer's report as JSON: how processes send it, and what stands in `.merge.json`. Numbers that are not finite
/// become null, and NaN when they are read; `diagnostics` is left out where there are none.
nlohmann::json to_json(const LayerReport& report);
/// @throws nlohmann::json::exception if a field is missing or of another type
LayerReport layer_report_from(const nlohmann::json& object);

}  // namespace amalgam
