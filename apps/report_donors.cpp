// What each task gains by the others' experts: intermediate-task merging, every ordered pair.
#include <fmt/format.h>

#include <cmath>
#include <exception>

#include "apps/html.h"
#include "apps/report_choice.h"
#include "apps/report_page.h"
#include "models/metric.h"

namespace amalgam {
namespace {

using nlohmann::json;

struct Gain {
  double gain = 0;  ///< above the task's own expert, in the metric's units; positive is better
  double weight = 0;
  bool apart = false;  ///< its interval leaves out 0
};

/// @throws nlohmann::json::exception where the record is not what `Pipeline::score_donor` made
Gain gain_of(const json& details) {
  const auto& metric = find_metric(details.at("metric").get<std::string>());
  Gain gain;
  gain.gain = metric.merit(details.at("value").get<double>()) - metric.merit(details.at("expert").get<double>());
  details.at("weight").get_to(gain.weight);
  if (details.contains("interval"))
    gain.apart = details["interval"].at(0).get<double>() > 0 || details["interval"].at(1).get<double>() < 0;
  return gain;
}

/// "+1.2", in points of a share, else in the metric's own units.
std::string gain_text(const Gain& gain, bool share) {
  const double shown = share ? std::round(1000 * gain.gain) / 10 : gain.gain;
  const auto figure = share ? fmt::format("{:.1f}", std::abs(shown)) : fmt::format("{:.3g}", std::abs(shown));
  const auto text = fmt::format("{}{}", shown > 0 ? "+" : shown < 0 ? "−" : "", figure);
  return fmt::format("{} <small>× {:g}</small>", gain.apart ? "<strong>" + text + "</strong>" : text, gain.weight);
}

/// Donors by rows, targets by columns.
std::string matrix(const RunRecord& run, const std::string& row) {
  std::string split;
  std::vector<std::string> headings = {"donor"};
  for (const auto& target : run.tasks) headings.push_back("into<br>" + escape_html(target));
  std::vector<std::vector<std::string>> cells(run.tasks.size());
  for (size_t donor = 0; donor < run.tasks.size(); ++donor) {
    cells[donor] = {escape_html(run.tasks[donor])};
    for (const auto& target : run.tasks) {
      const auto* step = run.step("donor", fmt::format("{} {} {}", row, target, run.tasks[donor]));
      cells[donor].push_back(step ? gain_text(gain_of(step->details), !lower_is_better(run, target)) : "");
      if (step) split = step->details.value("split", "");
    }
  }
  if (split.empty())
    return html_missing(fmt::format("No pair of <code>{}</code> has been merged yet.", escape_html(row)));
  HtmlTable table(
      fmt::format("<b>{}</b> · {} · points above the task’s own expert, and the donor’s weight, the best on "
                  "val; in bold where a 95 % interval of a paired bootstrap over the examples leaves out 0",
                  escape_html(row), escape_html(split)),
      headings);
  for (const auto& line : cells) table.add(line);
  return html_scroll("Gains by donors, " + escape_html(row), table.html());
}

}  // namespace

std::string donors_section(const RunRecord& run) {
  if (run.donor_rows.empty()) return "";
  std::string body =
      "<p>Intermediate-task merging: the expert of one task, the donor, merged into the expert of another, whose score "
      "is told. The task’s own weight is 1.</p>\n";
  for (const auto& row : run.donor_rows) {
    try {
      body += matrix(run, row);
    } catch (const std::exception& error) {
      body += html_missing(fmt::format("{}: {}", escape_html(row), escape_html(error.what())));
    }
  }
  return html_section("donors", "What a donor gives", body);
}

}  // namespace amalgam
