// What the rows make of subsets of the experts: by how many there are, on the merged tasks and on the others.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <set>

#include "apps/html.h"
#include "apps/report_choice.h"
#include "apps/report_page.h"
#include "apps/svg_chart.h"

namespace amalgam {
namespace {

/// One row merged of one subset.
struct SubsetScore {
  std::vector<std::string> tasks;
  std::vector<ScoreLine> lines;    ///< of all tasks
  double held_in = 0;              ///< mean over the merged tasks
  std::optional<double> held_out;  ///< over the others
  int64_t val_looks = 0, evaluations = 0;
};

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// Of a sample; nothing of one value.
std::optional<double> deviation(const std::vector<double>& values) {
  if (values.size() < 2) return std::nullopt;
  double squares = 0;
  for (const double value : values) squares += std::pow(value - mean(values), 2);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

/// @throws nlohmann::json::exception, or InputError, where the record is not what `Pipeline::score_subset` made
SubsetScore subset_score(const nlohmann::json& details) {
  SubsetScore subset;
  details.at("tasks").get_to(subset.tasks);
  details.at("val_looks").get_to(subset.val_looks);
  details.at("evaluations").get_to(subset.evaluations);
  for (const auto& object : details.at("scores")) subset.lines.push_back(score_line_from(object));
  return subset;
}

void set_means(SubsetScore& subset, bool normalised) {
  std::vector<double> in, out;
  for (const auto& line : subset.lines) {
    const bool merged = std::ranges::count(subset.tasks, line.task) > 0;
    (merged ? in : out).push_back(normalised ? *line.normalised : line.value);
  }
  subset.held_in = mean(in);
  if (!out.empty()) subset.held_out = mean(out);
}

using SubsetScores = std::map<std::string, std::vector<SubsetScore>>;  // by row

SubsetScores read_scores_of_subsets(const RunRecord& run) {
  SubsetScores scores;
  for (const auto* step : run.of_kind("protocol"))
    scores[step->details.at("row").get<std::string>()].push_back(subset_score(step->details));
  return scores;
}

bool all_normalised(const SubsetScores& scores) {
  for (const auto& [row, subsets] : scores)
    for (const auto& subset : subsets)
      for (const auto& line : subset.lines)
        if (!line.normalised) return false;
  return true;
}

std::set<size_t> sizes_of(const SubsetScores& scores) {
  std::set<size_t> sizes;
  for (const auto& [row, subsets] : scores)
    for (const auto& subset : subsets) sizes.insert(subset.tasks.size());
  return sizes;
}

std::vector<double> held_in_of(const std::vector<SubsetScore>& subsets, size_t size) {
  std::vector<double> values;
  for (const auto& subset : subsets)
    if (subset.tasks.size() == size) values.push_back(subset.held_in);
  return values;
}

std::string curve(const std::string& row, const std::vector<SubsetScore>& subsets, const std::set<size_t>& sizes,
                  std::pair<double, double> range, bool shares) {
  LineChart chart;
  chart.title = row + ": score on the merged tasks by their number";
  chart.x_label = "experts";
  chart.width = 260;
  chart.height = 170;
  chart.low = range.first;
  chart.high = range.second;
  chart.shares = shares;
  Line lowest{"lowest", {}, "thin"}, highest{"highest", {}, "thin"}, middle{"mean", {}, "line", true};
  for (const size_t size : sizes) {
    const auto values = held_in_of(subsets, size);
    if (values.empty()) continue;
    const auto x = static_cast<double>(size);
    middle.points.emplace_back(x, mean(values));
    lowest.points.emplace_back(x, *std::ranges::min_element(values));
    highest.points.emplace_back(x, *std::ranges::max_element(values));
  }
  chart.description = fmt::format("{} subsets; the figures are in the table below.", subsets.size());
  chart.lines = {lowest, highest, middle};
  return html_figure(escape_html(row), draw(chart));
}

std::string curves(const RunRecord& run, const SubsetScores& scores, bool shares) {
  std::vector<double> all;
  for (const auto& [row, subsets] : scores)
    for (const auto& subset : subsets) all.push_back(subset.held_in);
  auto range = finite_range(all).value_or(std::pair{0.0, 1.0});
  const double margin = std::max(0.01, 0.08 * (range.second - range.first));
  range = {range.first - margin, range.second + margin};
  std::string html;
  for (const auto& row : run.rows)
    if (scores.contains(row)) html += curve(row, scores.at(row), sizes_of(scores), range, shares);
  return "<p>Mean over the merged tasks by the number of experts: the mean over the subsets, and between thin lines "
         "all of "
         "them. All panels have the same axis.</p>\n<div class=\"panels\">\n" +
         html + "</div>\n";
}

std::string with_spread(const std::vector<double>& values, bool shares) {
  if (values.empty()) return "–";
  const auto text = [&](double value) { return shares ? percent_text(value) : score_text(value, false); };
  const auto spread = deviation(values);
  return text(mean(values)) + (spread ? " <small>± " + text(*spread) + "</small>" : "");
}

std::string size_table(const RunRecord& run, const SubsetScores& scores, bool shares) {
  std::vector<std::string> headings = {"row"};
  for (const size_t size : sizes_of(scores)) headings.push_back(fmt::format("{} experts", size));
  headings.insert(headings.end(), {"other tasks", "evaluations", "looks at val"});
  HtmlTable table(
      fmt::format(
          "Mean over the merged tasks{} ± deviation over the subsets; last the mean over the tasks that were not "
          "merged, how many scores the row’s figures are made of, and how often it looked at a task’s val",
          shares ? ", in %," : ","),
      headings);
  for (const auto& row : run.rows) {
    if (!scores.contains(row)) continue;
    std::vector<std::string> cells = {escape_html(row)};
    for (const size_t size : sizes_of(scores)) cells.push_back(with_spread(held_in_of(scores.at(row), size), shares));
    std::vector<double> others;
    int64_t looks = 0, evaluations = 0;
    for (const auto& subset : scores.at(row)) {
      if (subset.held_out) others.push_back(*subset.held_out);
      looks += subset.val_looks;
      evaluations += subset.evaluations;
    }
    cells.insert(cells.end(), {with_spread(others, shares), count_text(evaluations), count_text(looks)});
    table.add(cells);
  }
  return html_scroll("Scores by the number of experts", table.html());
}

/// How often the row of the table is better than that of the column, of the subsets that both were merged of.
std::string wins_table(const RunRecord& run, const SubsetScores& scores, bool lower) {
  std::vector<std::string> rows;
  std::ranges::copy_if(run.rows, std::back_inserter(rows), [&](const auto& row) { return scores.contains(row); });
  std::map<std::string, std::map<std::vector<std::string>, double>> by_subset;
  for (const auto& row : rows)
    for (const auto& subset : scores.at(row)) by_subset[row][subset.tasks] = subset.held_in;
  std::vector<std::string> headings = {"better than"};
  for (const auto& row : rows) headings.push_back(escape_html(row));
  headings.push_back("best of all");
  HtmlTable table("In how many subsets a row is better on the merged tasks than that of the column", headings);
  for (const auto& row : rows) {
    std::vector<std::string> cells = {escape_html(row)};
    std::map<std::vector<std::string>, bool> best;
    for (const auto& other : rows) {
      int64_t wins = 0, both = 0;
      for (const auto& [subset, value] : by_subset[row]) {
        best.emplace(subset, true);
        const auto found = by_subset[other].find(subset);
        if (found == by_subset[other].end() || other == row) continue;
        const bool better = lower ? value < found->second : value > found->second;
        ++both;
        wins += better;
        if (!better) best[subset] = false;
      }
      cells.push_back(both > 0 ? fmt::format("{} of {}", wins, both) : "");
    }
    cells.push_back(std::to_string(std::ranges::count_if(best, [](const auto& entry) { return entry.second; })));
    table.add(cells);
  }
  return html_scroll("Wins", table.html());
}

}  // namespace

std::string protocol_section(const RunRecord& run) {
  if (run.protocol_subsets.empty()) return "";
  const std::string heading = "Subsets of the experts";
  try {
    auto scores = read_scores_of_subsets(run);
    if (scores.empty()) return html_section("protocol", heading, html_missing("No subset has been merged yet."));
    const bool lower = lower_is_better(run), normalised = all_normalised(scores);
    if (!normalised && !lower && lower_is_better_somewhere(run))
      return html_section("protocol", heading,
                          html_missing("In some of the tasks lower is better, in others higher: the scores of a subset "
                                       "have no mean. The steps’ records hold each task’s."));
    for (auto& [row, subsets] : scores)
      for (auto& subset : subsets) set_means(subset, normalised);
    return html_section("protocol", heading,
                        curves(run, scores, !lower) + size_table(run, scores, !lower) + wins_table(run, scores, lower));
  } catch (const std::exception& error) {
    return html_section("protocol", heading, html_missing(escape_html(error.what())));
  }
}

}  // namespace amalgam
