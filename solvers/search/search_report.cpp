#include "solvers/search/search_report.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace amalgam {

using nlohmann::json;

json to_json(const SearchReport& report) {
  json spent = json::array(), values = json::array();
  for (const SearchPoint& point : report.curve) {
    spent.push_back(point.spent);
    values.push_back(point.value);
  }
  return {{"measure", report.measure},
          {"unit", report.unit},
          {"lower_is_better", report.lower_is_better},
          {"spent", spent},
          {"values", values},
          {"why", report.why},
          {"val_looks", report.val_looks},
          {"groups", report.groups},
          {"tasks", report.tasks},
          {"coefficients", report.coefficients}};
}

SearchReport search_report_from(const json& object) {
  SearchReport report;
  object.at("measure").get_to(report.measure);
  object.at("unit").get_to(report.unit);
  object.at("lower_is_better").get_to(report.lower_is_better);
  const json &spent = object.at("spent"), &values = object.at("values");
  for (size_t i = 0; i < spent.size(); ++i)
    report.curve.push_back({spent.at(i).get<int64_t>(), values.at(i).is_null()
                                                            ? std::numeric_limits<double>::quiet_NaN()
                                                            : values.at(i).get<double>()});
  object.at("why").get_to(report.why);
  object.at("val_looks").get_to(report.val_looks);
  object.at("groups").get_to(report.groups);
  object.at("tasks").get_to(report.tasks);
  object.at("coefficients").get_to(report.coefficients);
  require_input(
      report.coefficients.size() == report.groups.size() &&
          std::ranges::all_of(report.coefficients, [&](const auto& row) { return row.size() == report.tasks.size(); }),
      "the record of a search has not one coefficient a group and task");
  return report;
}

}  // namespace amalgam
