// What the searches on val tried, and what came of each setting.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "apps/html.h"
#include "apps/report_choice.h"
#include "apps/report_page.h"
#include "apps/svg_chart.h"

namespace amalgam {
namespace {

/// Where values span more than this factor they stand on a logarithmic axis.
constexpr double kLogarithmic = 20.0;

/// @param lower  the lowest mean was taken
const SearchTrial& chosen_trial(const MergeRecord& merge, bool lower) {
  return *std::max_element(
      merge.search.begin(), merge.search.end(), [lower](const SearchTrial& a, const SearchTrial& b) {
        return (lower ? a.mean > b.mean : a.mean < b.mean) || (std::isnan(a.mean) && !std::isnan(b.mean));
      });
}

std::optional<double> number_in(const std::string& text) {
  double value = 0;
  const auto [last, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && last == text.data() + text.size() && std::isfinite(value);
  return whole ? std::optional(value) : std::nullopt;
}

/// A search over the numbers of one option.
struct Sweep {
  std::string option;
  std::vector<std::pair<double, double>> points;  ///< value, mean on val; by value
  std::pair<double, double> chosen;
};

/// Nothing where other than one option was searched, or a value is no number, or there is but one.
std::optional<Sweep> sweep_of(const MergeRecord& merge, bool lower) {
  Sweep sweep;
  for (const auto& trial : merge.search) {
    if (trial.settings.size() != 1) return std::nullopt;
    sweep.option = trial.settings[0].first;
    const auto value = number_in(trial.settings[0].second);
    if (!value) return std::nullopt;
    sweep.points.emplace_back(*value, trial.mean);
    if (&trial == &chosen_trial(merge, lower)) sweep.chosen = sweep.points.back();
  }
  std::sort(sweep.points.begin(), sweep.points.end());
  if (sweep.points.empty() || sweep.points.front().first == sweep.points.back().first) return std::nullopt;
  return sweep;
}

/// The ratio of the largest to the smallest value above 0; 1 where a value is negative.
double span_of(const Sweep& sweep) {
  if (sweep.points.front().first < 0) return 1;
  const auto smallest =
      std::find_if(sweep.points.begin(), sweep.points.end(), [](const auto& point) { return point.first > 0; });
  return sweep.points.back().first / smallest->first;
}

std::string sweep_figure(const MergeRecord& merge, const Sweep& sweep, bool lower) {
  LineChart chart;
  chart.shares = !lower;
  chart.title = fmt::format("{}: mean on val by {}", merge.row, sweep.option);
  chart.x_label = sweep.option;
  chart.width = 440;
  chart.height = 240;
  chart.log_x = span_of(sweep) > kLogarithmic;
  std::vector<double> means;
  for (const auto& [value, mean] : sweep.points) means.push_back(mean);
  const auto range = finite_range(means).value_or(std::pair{0.0, 1.0});
  const double margin = std::max(0.005, 0.12 * (range.second - range.first));
  chart.low = range.first - margin;
  chart.high = range.second + margin;
  chart.lines.push_back({"mean on val", sweep.points, "line", true});
  chart.marked = sweep.chosen;
  chart.marked_label = fmt::format("{:.6g}", sweep.chosen.first);
  chart.description =
      fmt::format("{} settings; the best, {} = {:.6g}, reaches {}; the figures are in the table below.",
                  sweep.points.size(), sweep.option, sweep.chosen.first, score_text(sweep.chosen.second, !lower));
  std::string note;
  if (chart.log_x && sweep.points.front().first == 0) {
    chart.limit = sweep.points.front().second;
    note += " The axis is logarithmic; the dashed line is the score at 0";
    note += sweep.chosen.first == 0 ? ", which was taken." : ".";
  }
  if (sweep.option == "iterations")
    note +=
        " Fewer iterations stay nearer to the start: where the best number is not the largest, stopping early serves "
        "as "
        "regularisation.";
  return html_figure(
      fmt::format("{} <small>by <code>{}</code>.{}</small>", escape_html(merge.row), escape_html(sweep.option), note),
      draw(chart));
}

std::string search_table(const MergeRecord& merge, bool lower) {
  HtmlTable table(fmt::format("Mean over the tasks on val{}; the best was taken", lower ? "" : ", in %"),
                  {"setting", "mean"});
  const double best = chosen_trial(merge, lower).mean;
  for (const auto& trial : merge.search) {
    const auto figure = lower ? score_text(trial.mean, false) : percent_text(trial.mean);
    const auto mean = std::isfinite(trial.mean) ? figure : "–";
    table.add({escape_html(trial.values()), trial.mean == best ? "<strong>" + mean + "</strong>" : mean});
  }
  return html_details(fmt::format("{}: {} tried on val", escape_html(merge.row),
                                  plural_text(static_cast<int64_t>(merge.search.size()), "setting")),
                      html_scroll("Search of " + escape_html(merge.row), table.html()));
}

}  // namespace

std::string searches_section(const RunRecord& run) {
  const std::string heading = "What the searches found";
  const bool lower = lower_is_better(run);
  std::string charts, tables;
  for (const auto& merge : run.merges) {
    if (merge.search.empty()) continue;
    tables += search_table(merge, lower);
    if (const auto sweep = sweep_of(merge, lower)) charts += sweep_figure(merge, *sweep, lower);
  }
  const std::string coefficients = coefficient_searches(run);
  if (tables.empty() && coefficients.empty())
    return html_section("searches", heading,
                        html_missing("No row of this run has searched its options on val, or coefficients."));
  if (tables.empty()) return html_section("searches", heading, coefficients);
  std::string body =
      "<p>Each setting was merged and scored on val; the mean over the tasks, normalised where scores can be.</p>\n";
  if (!charts.empty())
    body += "<p>The large dot is the setting that was taken.</p>\n<div class=\"panels broad\">\n" + charts + "</div>\n";
  return html_section("searches", heading, body + tables + coefficients);
}

}  // namespace amalgam
