#include "apps/merge_record.h"

#include <fmt/format.h>

#include <limits>

namespace amalgam {
namespace {

using nlohmann::json;

/// JSON has no NaN: it is written as null.
double number(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

double number(const json& object, const char* key) {
  return object.contains(key) ? number(object.at(key)) : std::numeric_limits<double>::quiet_NaN();
}

std::string text(const json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::vector<double> numbers(const json& object, const char* key) {
  std::vector<double> values;
  if (object.contains(key) && object[key].is_array())
    for (const auto& value : object[key]) values.push_back(number(value));
  return values;
}

/// What a field lacks is NaN or empty: records of other versions may know fewer.
LayerDiagnostics diagnostics_from(const json& object) {
  LayerDiagnostics diagnostics;
  if (object.contains("condition") && object["condition"].is_number())
    diagnostics.condition = object["condition"].get<double>();
  diagnostics.effective_rank = numbers(object, "effective_rank");
  diagnostics.from_average = number(object, "from_average");
  diagnostics.from_expert = numbers(object, "from_expert");
  diagnostics.unseen = number(object, "unseen");
  return diagnostics;
}

LayerSolve layer_from(const json& object) {
  LayerSolve layer;
  object.at("layer").get_to(layer.layer);
  object.at("solver").get_to(layer.solver);
  object.at("why").get_to(layer.why);
  object.at("iterations").get_to(layer.iterations);
  object.at("converged").get_to(layer.converged);
  layer.residual = number(object, "residual");
  for (const auto& value : object.at("history")) layer.history.push_back(number(value));
  for (const auto& note : object.at("notes")) layer.notes.push_back(text(note));
  if (object.contains("width") && object["width"].is_number_integer()) layer.width = object["width"].get<int64_t>();
  if (object.contains("diagnostics") && object["diagnostics"].is_object())
    layer.diagnostics = diagnostics_from(object["diagnostics"]);
  return layer;
}

SearchTrial trial_from(const json& object) {
  SearchTrial trial;
  for (const auto& [option, value] : object.at("values").items()) trial.settings.emplace_back(option, text(value));
  trial.mean = number(object, "mean");
  return trial;
}

AdapterRecord adapter_from(const json& object) {
  AdapterRecord adapter;
  adapter.rank = object.value("rank", int64_t{0});
  adapter.vectors = object.value("vectors", int64_t{0});
  adapter.lost = number(object, "relative_error");
  return adapter;
}

}  // namespace

std::string SearchTrial::values() const {
  std::string all;
  for (const auto& [option, value] : settings) all += fmt::format("{}{} = {}", all.empty() ? "" : ", ", option, value);
  return all;
}

MergeRecord merge_record(const json& object) {
  MergeRecord merge;
  object.at("row").get_to(merge.row);
  object.at("method").get_to(merge.method);
  object.at("options").get_to(merge.options);
  object.at("base").get_to(merge.base);
  merge.inputs = object.value("inputs", "");
  for (const auto& expert : object.at("experts"))
    merge.experts.push_back({expert.at("task").get<std::string>(), expert.at("digest").get<std::string>(),
                             expert.at("statistics").get<std::string>(), number(expert, "weight")});
  for (const auto& trial : object.at("search")) merge.search.push_back(trial_from(trial));
  merge.val_looks = object.value("val_looks", static_cast<int64_t>(merge.search.size()));
  const auto& report = object.at("report");
  if (report.contains("search")) merge.coefficients = search_report_from(report["search"]);
  for (const auto& layer : report.at("layers")) merge.layers.push_back(layer_from(layer));
  for (const auto& fallback : report.at("fallbacks"))
    merge.fallbacks.push_back({fallback.at("parameter").get<std::string>(), fallback.at("why").get<std::string>(),
                               fallback.value("rows_only", false)});
  if (object.contains("router") && object["router"].is_object())
    for (const auto& [task, share] : object["router"].at("right").items())
      merge.right_routes.emplace_back(task, number(share));
  if (object.contains("adapter")) merge.adapter = adapter_from(object["adapter"]);
  return merge;
}

}  // namespace amalgam
