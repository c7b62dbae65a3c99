#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace amalgam {

/// What a search had found when it had spent so much.
struct SearchPoint {
  int64_t spent = 0;   ///< in the report's unit
  double value = 0.0;  ///< of this step or generation; NaN where it was not finite
};

/// How a search for coefficients with the models run went, and what it found.
struct SearchReport {
  std::string measure;  ///< what was searched by: "entropy on val"
  std::string unit;     ///< what `SearchPoint::spent` counts: "steps", "evaluations"
  bool lower_is_better = true;
  std::vector<SearchPoint> curve;
  std::string why;        ///< it ended
  int64_t val_looks = 0;  ///< how often the models were scored on the whole of `val`, with its labels
  std::vector<std::string> groups, tasks;
  std::vector<std::vector<double>> coefficients;  ///< [groups][tasks]
};

nlohmann::json to_json(const SearchReport& report);
/// @throws nlohmann::json::exception if a field is missing or of another type
/// @throws InputError if there is not one coefficient a group and task
SearchReport search_report_from(const nlohmann::json& object);

}  // namespace amalgam
