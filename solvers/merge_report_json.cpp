#include "solvers/merge_report_json.h"

#include <nlohmann/json.hpp>

#include "solvers/layer_report_json.h"

namespace amalgam {

using nlohmann::json;

json to_json(const MergeReport& report, const LayerTable& table) {
  json layers = json::array();
  for (const auto& layer : report.layers) {
    layers.push_back(to_json(layer));
    if (const Layer* known = table.find(layer.layer))
      layers.back()["width"] = known->in + (known->bias.empty() ? 0 : 1);
  }
  json fallbacks = json::array();
  for (const auto& fallback : report.fallbacks)
    fallbacks.push_back({{"parameter", fallback.parameter}, {"why", fallback.why}, {"rows_only", fallback.rows_only}});
  json object = {
      {"layers", layers}, {"fallbacks", fallbacks}, {"merged", report.merged_parameters}, {"seconds", report.seconds}};
  if (report.search) object["search"] = to_json(*report.search);
  return object;
}

}  // namespace amalgam
