#pragma once

#include <nlohmann/json_fwd.hpp>

#include "solvers/merge.h"

namespace amalgam {

/// How a merge went, as JSON: `report` of `.merge.json` and `amalgam.json`.
/// @param table  says the widths of layers; of those that it does not hold none is written
nlohmann::json to_json(const MergeReport& report, const LayerTable& table);

}  // namespace amalgam
