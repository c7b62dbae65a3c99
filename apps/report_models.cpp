// What fine-tuning did: the size of each expert's change, and the curves.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/html.h"
#include "apps/report_names.h"
#include "apps/report_page.h"
#include "apps/svg_chart.h"
#include "models/metric.h"

namespace amalgam {
namespace {

using nlohmann::json;

/// Parameters × experts, from the records of the opened experts. A parameter that one expert lacks is NaN there.
HeatMap change_map(const RunRecord& run) {
  HeatMap map;
  for (const auto* step : run.of_kind("open")) {
    if (!step->details.contains("relative_change") || !step->details["relative_change"].is_array()) continue;
    map.rows.push_back(step->subject);
    auto& values = map.values.emplace_back(map.columns.size(), std::numeric_limits<double>::quiet_NaN());
    for (const auto& entry : step->details["relative_change"]) {
      const auto name = entry.at(0).get<std::string>();
      auto place = static_cast<size_t>(std::find(map.columns.begin(), map.columns.end(), name) - map.columns.begin());
      if (place == map.columns.size()) {
        map.columns.push_back(name);
        for (auto& row : map.values) row.resize(map.columns.size(), std::numeric_limits<double>::quiet_NaN());
      }
      if (entry.at(1).is_number()) values[place] = entry.at(1).get<double>();
    }
  }
  for (const auto& column : map.columns) map.groups.push_back(block_of(column));
  map.title = "Relative size of each expert’s change, parameter by parameter";
  map.description =
      "One row an expert, one column a parameter in the model’s order; the figures are in the table below.";
  return map;
}

std::string change_table(const HeatMap& map) {
  std::vector<std::string> headings = {"parameter"};
  for (const auto& row : map.rows) headings.push_back(escape_html(row));
  HtmlTable table("‖θ<sub>m</sub> − θ<sub>0</sub>‖ / ‖θ<sub>0</sub>‖", headings);
  for (size_t c = 0; c < map.columns.size(); ++c) {
    std::vector<std::string> cells = {fmt::format("<code>{}</code>", escape_html(map.columns[c]))};
    for (const auto& row : map.values) cells.push_back(std::isfinite(row[c]) ? fmt::format("{:.3g}", row[c]) : "–");
    table.add(cells);
  }
  return html_details(
      fmt::format("All figures, {}", plural_text(static_cast<int64_t>(map.columns.size()), "parameter")),
      html_scroll("Relative change of each parameter", table.html()));
}

struct Curve {
  std::string subject;
  std::vector<std::pair<double, double>> heads, points;  ///< the steps of `points` follow those of `heads`
  int64_t best_step = 0;
  bool shares = true;  ///< the metric reads as a share
};

/// The steps and values of a curve's looks at val, `before` steps later.
std::vector<std::pair<double, double>> points_of(const json& details, double before) {
  std::vector<std::pair<double, double>> points;
  for (const auto& point : details.at("curve"))
    if (point.at("val_value").is_number())
      points.emplace_back(before + point.at("step").get<double>(), point.at("val_value").get<double>());
  return points;
}

std::vector<Curve> curves_of(const RunRecord& run) {
  std::vector<Curve> curves;
  for (const auto* step : run.of_kind("train")) {
    if (!step->details.contains("curve")) continue;
    Curve curve{step->subject, {}, {}, step->details.value("best_step", int64_t{0})};
    if (step->details.contains("heads")) curve.heads = points_of(step->details["heads"], 0);
    const double before = curve.heads.empty() ? 0 : curve.heads.back().first;
    curve.points = points_of(step->details, before);
    curve.best_step += static_cast<int64_t>(before);
    curve.shares =
        !step->inputs.contains("metric") || find_metric(step->inputs["metric"].get<std::string>()).higher_is_better;
    if (!curve.points.empty()) curves.push_back(std::move(curve));
  }
  return curves;
}

/// The ends of an axis that holds the curves of the base, or of all experts whose metrics read alike, so that these can
/// be compared.
std::pair<double, double> range_of(const std::vector<Curve>& curves, const Curve& one) {
  std::vector<double> values;
  for (const auto& curve : curves)
    for (const auto* stage : {&curve.heads, &curve.points})
      for (const auto& [step, value] : *stage)
        if ((curve.subject == "base") == (one.subject == "base") && curve.shares == one.shares) values.push_back(value);
  const auto range = finite_range(values).value_or(std::pair{0.0, 1.0});
  const double margin = std::max(0.01, 0.08 * (range.second - range.first));
  return {range.first - margin, range.second + margin};
}

std::string training_chart(const Curve& curve, const std::pair<double, double>& range) {
  LineChart chart;
  chart.title = fmt::format("Fine-tuning of {}", curve.subject);
  chart.x_label = "step";
  chart.low = range.first;
  chart.high = range.second;
  chart.shares = curve.shares;
  if (!curve.heads.empty()) chart.lines.push_back({"private parameters alone", curve.heads, "thin", true});
  chart.lines.push_back({curve.subject, curve.points, "line"});
  for (const auto& point : curve.points)
    if (point.first == static_cast<double>(curve.best_step)) chart.marked = point;
  if (chart.marked) {
    chart.marked_label = score_text(chart.marked->second, curve.shares);
    chart.description = fmt::format("Best on val at step {}: {}.", curve.best_step, chart.marked_label);
  }
  return draw(chart);
}

}  // namespace

std::string change_section(const RunRecord& run) {
  const std::string heading = "How far each expert moved";
  const auto map = change_map(run);
  if (map.columns.empty())
    return html_section("change", heading, html_missing("No expert has been compared with the base yet."));
  return html_section("change", heading,
                      "<p>The size of each expert’s change relative to the base, ‖θ<sub>m</sub> − θ<sub>0</sub>‖ / "
                      "‖θ<sub>0</sub>‖: a row an "
                      "expert, a column a parameter, in the model’s order.</p>\n" +
                          html_scroll("Map of the relative change", draw(map)) + change_table(map));
}

std::string training_section(const RunRecord& run) {
  const std::string heading = "Fine-tuning";
  const auto curves = curves_of(run);
  if (curves.empty())
    return html_section("training", heading,
                        html_missing("This run has trained no model: they were given as files, or are not made yet."));
  const bool staged =
      std::any_of(curves.begin(), curves.end(), [](const Curve& curve) { return !curve.heads.empty(); });
  std::string body = fmt::format(
      "<p>The metric on val by step. The large dot is the checkpoint that was kept. The experts share one axis.{}</p>\n"
      "<div class=\"panels\">\n",
      staged ? " A line with small dots comes first: the private parameters alone were fitted, on the body of the base."
             : "");
  for (const auto& curve : curves)
    body += html_figure(escape_html(curve.subject), training_chart(curve, range_of(curves, curve)));
  return html_section("training", heading, body + "</div>\n");
}

}  // namespace amalgam
