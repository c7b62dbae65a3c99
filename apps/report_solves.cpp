// How the systems of the merges were solved.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/html.h"
#include "apps/report_page.h"
#include "apps/svg_chart.h"

namespace amalgam {
namespace {

constexpr size_t kMostNamed = 8;

bool has_history(const MergeRecord& merge) {
  return std::any_of(merge.layers.begin(), merge.layers.end(),
                     [](const LayerSolve& layer) { return layer.history.size() > 1; });
}

std::string residual_text(double residual) {
  return std::isfinite(residual) ? fmt::format("{:.1e}", residual) : "not finite";
}

/// The top-level `tolerance` of a row's options.
std::optional<double> tolerance_of(const MergeRecord& merge) {
  try {
    const YAML::Node options = YAML::Load(merge.options);
    if (options.IsMap() && options["tolerance"]) return options["tolerance"].as<double>();
  } catch (const YAML::Exception&) {  // options of a method that writes something else: no line is drawn
  }
  return std::nullopt;
}

std::vector<std::pair<double, double>> points_of(const std::vector<double>& history) {
  std::vector<std::pair<double, double>> points;
  for (size_t i = 0; i < history.size(); ++i) points.emplace_back(static_cast<double>(i), history[i]);
  return points;
}

/// The median over the layers at each iteration; a layer that has stopped keeps its last value.
std::vector<double> median_history(const MergeRecord& merge) {
  size_t longest = 0;
  for (const auto& layer : merge.layers) longest = std::max(longest, layer.history.size());
  std::vector<double> medians;
  for (size_t i = 0; i < longest; ++i) {
    std::vector<double> values;
    for (const auto& layer : merge.layers) {
      if (layer.history.empty()) continue;
      const double value = layer.history[std::min(i, layer.history.size() - 1)];
      if (std::isfinite(value)) values.push_back(value);
    }
    if (values.empty()) break;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    medians.push_back(*middle);
  }
  return medians;
}

std::string residual_chart(const MergeRecord& merge) {
  LineChart chart;
  chart.title = fmt::format("{}: relative residual by iteration", merge.row);
  chart.x_label = "iteration";
  chart.width = 440;
  chart.height = 260;
  chart.log_y = true;
  chart.limit = tolerance_of(merge);
  std::vector<double> positive;
  if (chart.limit && *chart.limit > 0) positive.push_back(*chart.limit);
  for (const auto& layer : merge.layers)
    for (const double value : layer.history)
      if (value > 0) positive.push_back(value);
  const auto range = finite_range(positive).value_or(std::pair{1e-6, 1.0});
  chart.low = range.first / 2;
  chart.high = range.second * 2;
  // What did not converge is drawn last, over the others.
  for (const bool converged : {true, false})
    for (const auto& layer : merge.layers)
      if (layer.converged == converged)
        chart.lines.push_back({fmt::format("{}: {} iterations, residual {}", layer.layer, layer.iterations,
                                           residual_text(layer.residual)),
                               points_of(layer.history), converged ? "thin" : "bad"});
  chart.lines.push_back({"median of the layers", points_of(median_history(merge)), "bold"});
  chart.description = fmt::format(
      "{} layers, one thin line each, and their median; the figures are in the table below.", merge.layers.size());
  return draw(chart);
}

std::string key(const std::string& style, const std::string& label) {
  return fmt::format(
      "<span class=\"key\"><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><line x1=\"1\" y1=\"5\" x2=\"25\" "
      "y2=\"5\" "
      "class=\"{}\"/></svg>{}</span>\n",
      style, label);
}

std::string solves_table(const MergeRecord& merge) {
  HtmlTable table(fmt::format("<b>{}</b>", escape_html(merge.row)),
                  {"layer", "solver", "why it stopped", "iterations", "true residual"}, 2);
  for (const auto& layer : merge.layers) {
    auto why = escape_html(layer.why);
    for (const auto& note : layer.notes) why += fmt::format("<br><small>{}</small>", escape_html(note));
    table.add({fmt::format("<code>{}</code>", escape_html(layer.layer)), escape_html(layer.solver),
               fmt::format("{}{}", layer.converged ? "" : "not converged: ", why), count_text(layer.iterations),
               residual_text(layer.residual)},
              layer.converged ? "" : "bad");
  }
  return html_details(
      fmt::format("{}: {}", escape_html(merge.row), plural_text(static_cast<int64_t>(merge.layers.size()), "layer")),
      html_scroll("Solves of " + escape_html(merge.row), table.html()));
}

/// Names what did not converge, or says that all did.
std::string verdict(const RunRecord& run) {
  std::string failures;
  int64_t solved = 0;
  double largest = 0;
  std::string where;
  for (const auto& merge : run.merges) {
    std::vector<std::string> failed;
    for (const auto& layer : merge.layers) {
      if (layer.solver.empty()) continue;
      ++solved;
      if (!layer.converged) failed.push_back(layer.layer);
      if (!where.empty() && layer.residual <= largest) continue;  // false for NaN too: then it is the largest
      largest = std::isnan(layer.residual) ? std::numeric_limits<double>::infinity() : layer.residual;
      where = fmt::format("<code>{}</code> of {}", escape_html(layer.layer), escape_html(merge.row));
    }
    if (!failed.empty())
      failures += fmt::format("<p><strong>{} of {} of {} did not converge:</strong> {}.</p>\n", failed.size(),
                              plural_text(static_cast<int64_t>(merge.layers.size()), "layer"), escape_html(merge.row),
                              name_list(failed, kMostNamed));
  }
  if (solved == 0) return "<p>Nothing had to be solved; what the methods say of single parameters is below.</p>\n";
  if (!failures.empty()) return "<div class=\"alert\" role=\"note\">" + failures + "</div>\n";
  return fmt::format("<p>All {} converged; the largest true residual ‖b − Kx‖ / ‖b‖ is {}, at {}.</p>\n",
                     plural_text(solved, "solve"), residual_text(largest), where);
}

}  // namespace

std::string solves_section(const RunRecord& run) {
  const std::string heading = "How the systems were solved";
  std::string charts, tables;
  bool unconverged = false;
  for (const auto& merge : run.merges) {
    if (merge.layers.empty()) continue;
    tables += solves_table(merge);
    if (!has_history(merge)) continue;
    charts += html_figure(escape_html(merge.row), residual_chart(merge));
    for (const auto& layer : merge.layers) unconverged = unconverged || !layer.converged;
  }
  if (tables.empty())
    return html_section("solves", heading,
                        html_missing("No merged model of this run has solved a system of equations yet."));
  std::string body = verdict(run);
  if (!charts.empty()) {
    body +=
        "<p>The relative residual that the solver saw at each iteration, on a logarithmic scale; point at a line for "
        "its layer.</p>\n<p>" +
        key("thin", "one layer") + key("bold", "median of the layers") +
        (unconverged ? key("bad", "did not converge") : "") + key("limit", "tolerance") +
        "</p>\n<div class=\"panels broad\">\n" + charts + "</div>\n";
  }
  return html_section("solves", heading, body + tables);
}

}  // namespace amalgam
