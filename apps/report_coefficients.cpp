// What searches for coefficients found, and how.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/html.h"
#include "apps/report_page.h"
#include "apps/svg_chart.h"

namespace amalgam {
namespace {

/// Steps that a mean of noisy values is taken over.
constexpr size_t kWindow = 25;

using Points = std::vector<std::pair<double, double>>;

Points points_of(const SearchReport& search) {
  Points points;
  for (const auto& point : search.curve) points.emplace_back(static_cast<double>(point.spent), point.value);
  return points;
}

/// Of each point and those before it, as many as there are up to the window.
Points running_mean(const Points& points) {
  Points means;
  double sum = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    sum += points[i].second - (i >= kWindow ? points[i - kWindow].second : 0.0);
    means.emplace_back(points[i].first, sum / static_cast<double>(std::min(i + 1, kWindow)));
  }
  return means;
}

Points best_so_far(const Points& points, bool lower) {
  Points best;
  for (const auto& [spent, value] : points) {
    const double before = best.empty() ? value : best.back().second;
    const bool better = std::isnan(before) || (lower ? value < before : value > before);
    best.emplace_back(spent, better ? value : before);
  }
  return best;
}

std::string search_figure(const MergeRecord& merge, const SearchReport& search) {
  const bool noisy = search.unit == "steps";  // a batch each
  const Points points = points_of(search);
  LineChart chart;
  chart.title = fmt::format("{}: {} by {}", merge.row, search.measure, search.unit);
  chart.x_label = search.unit;
  chart.width = 440;
  chart.height = 240;
  chart.shares = !noisy && !search.lower_is_better;
  chart.lines.push_back({noisy ? "a batch" : "a generation’s best", points, "thin", !noisy});
  chart.lines.push_back({noisy ? "running mean" : "best so far",
                         noisy ? running_mean(points) : best_so_far(points, search.lower_is_better), "bold", false});
  std::vector<double> values;
  for (const auto& point : points) values.push_back(point.second);
  const auto range = finite_range(values).value_or(std::pair{0.0, 1.0});
  const double margin = std::max(noisy ? 1e-6 : 0.005, 0.12 * (range.second - range.first));
  chart.low = range.first - margin;
  chart.high = range.second + margin;
  const auto last = chart.lines.back().points.empty() ? 0.0 : chart.lines.back().points.back().second;
  chart.description = fmt::format("{} {}; {} at the end: {}.", search.curve.empty() ? 0 : search.curve.back().spent,
                                  search.unit, chart.lines.back().name, score_text(last, chart.shares));
  const std::string what = noisy ? fmt::format("thin: each step’s batch; bold: the mean of {}", kWindow)
                                 : "dots: each generation’s best; bold: the best so far";
  return html_figure(fmt::format("{} <small>{}, {}. Ended: {}.</small>", escape_html(merge.row),
                                 escape_html(search.measure), what, escape_html(search.why)),
                     draw(chart));
}

/// Empty where the search was for something else.
std::string coefficients_table(const MergeRecord& merge, const SearchReport& search) {
  if (search.groups.empty()) return "";
  std::vector<std::string> columns = {"group"};
  for (const auto& task : search.tasks) columns.push_back(escape_html(task));
  HtmlTable table("Coefficients by group of parameters and task", columns);
  for (size_t g = 0; g < search.groups.size(); ++g) {
    std::vector<std::string> cells = {fmt::format("<code>{}</code>", escape_html(search.groups[g]))};
    for (const double value : search.coefficients[g]) cells.push_back(fmt::format("{:.3f}", value));
    table.add(cells);
  }
  return html_details(
      fmt::format("{}: {} by {}, {} of val", escape_html(merge.row),
                  plural_text(static_cast<int64_t>(search.groups.size() * search.tasks.size()), "coefficient"),
                  escape_html(search.measure), plural_text(search.val_looks, "evaluation")),
      html_scroll("Coefficients of " + escape_html(merge.row), table.html()));
}

}  // namespace

std::string coefficient_searches(const RunRecord& run) {
  std::string charts, tables;
  for (const auto& merge : run.merges) {
    if (!merge.coefficients) continue;
    charts += search_figure(merge, *merge.coefficients);
    tables += coefficients_table(merge, *merge.coefficients);
  }
  if (charts.empty()) return "";
  return "<p>What was searched for with the models run: coefficients of the experts’ changes, or a mask of them.</p>\n"
         "<div class=\"panels broad\">\n" +
         charts + "</div>\n" + tables;
}

}  // namespace amalgam
