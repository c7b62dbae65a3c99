#include "solvers/layer_report_json.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace amalgam {
namespace {

using nlohmann::json;

double number(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::vector<double> numbers(const json& values) {
  std::vector<double> result;
  for (const json& value : values) result.push_back(number(value));
  return result;
}

json to_json(const LayerDiagnostics& diagnostics) {
  json object = {{"effective_rank", diagnostics.effective_rank},
                 {"from_average", diagnostics.from_average},
                 {"from_expert", diagnostics.from_expert},
                 {"unseen", diagnostics.unseen}};
  if (diagnostics.condition) object["condition"] = *diagnostics.condition;
  return object;
}

LayerDiagnostics diagnostics_from(const json& object) {
  LayerDiagnostics diagnostics;
  if (object.contains("condition")) diagnostics.condition = number(object["condition"]);
  diagnostics.effective_rank = numbers(object.at("effective_rank"));
  diagnostics.from_average = number(object.at("from_average"));
  diagnostics.from_expert = numbers(object.at("from_expert"));
  diagnostics.unseen = number(object.at("unseen"));
  return diagnostics;
}

}  // namespace

json to_json(const LayerReport& report) {
  json object = {{"layer", report.layer},       {"solver", report.solver},       {"iterations", report.iterations},
                 {"residual", report.residual}, {"converged", report.converged}, {"why", report.why},
                 {"history", report.history},   {"notes", report.notes}};
  if (report.diagnostics) object["diagnostics"] = to_json(*report.diagnostics);
  return object;
}

LayerReport layer_report_from(const json& object) {
  LayerReport report;
  object.at("layer").get_to(report.layer);
  object.at("solver").get_to(report.solver);
  object.at("iterations").get_to(report.iterations);
  report.residual = number(object.at("residual"));
  object.at("converged").get_to(report.converged);
  object.at("why").get_to(report.why);
  report.history = numbers(object.at("history"));
  object.at("notes").get_to(report.notes);
  if (object.contains("diagnostics")) report.diagnostics = diagnostics_from(object["diagnostics"]);
  return report;
}

}  // namespace amalgam
