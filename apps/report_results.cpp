// The tables of scores and the comparison by task.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "apps/html.h"
#include "apps/report_choice.h"
#include "apps/report_page.h"
#include "apps/svg_chart.h"

namespace amalgam {
namespace {

/// One column of a table of scores.
struct Column {
  std::string heading;
  std::vector<std::optional<double>> values;  ///< by row
  bool lower_is_better = false;
  bool loss = false;

  std::string text(size_t row) const {
    if (!values[row]) return "–";
    if (loss) return fmt::format("{:.3f}", *values[row]);
    return lower_is_better ? score_text(values[row], false) : percent_text(values[row]);
  }
};

/// The text of the best figure among merged rows: what reads the same counts the same.
std::string best_text(const Column& column, const std::vector<RowSummary>& rows) {
  std::optional<size_t> best;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (is_reference(rows[i].method) || !column.values[i]) continue;
    const bool better = best && (column.lower_is_better ? *column.values[i] < *column.values[*best]
                                                        : *column.values[i] > *column.values[*best]);
    if (!best || better) best = i;
  }
  return best ? column.text(*best) : "";
}

/// The mean over the tasks of a row's loss; nothing where one is missing.
std::optional<double> mean_loss(const RunRecord& run, const std::string& row, const std::string& split) {
  double sum = 0;
  size_t found = 0;
  for (const auto& line : run.scores)
    if (line.method == row && line.split == split &&
        std::find(run.tasks.begin(), run.tasks.end(), line.task) != run.tasks.end()) {
      sum += line.loss;
      ++found;
    }
  if (found != run.tasks.size() || !std::isfinite(sum)) return std::nullopt;
  return sum / static_cast<double>(found);
}

std::vector<Column> columns_of(const RunRecord& run, const std::vector<RowSummary>& rows, const std::string& split) {
  const auto metric = escape_html(metric_word(run));
  std::vector<Column> columns = {
      {"mean<br>normalised", {}}, {"worst task<br>normalised", {}}, {"mean<br>" + metric, {}, lower_is_better(run)}};
  for (const auto& task : run.tasks) {
    const bool lower = lower_is_better(run, task);
    columns.push_back({escape_html(task) + (lower ? "<br>" + escape_html(run.metrics.at(task)) : ""), {}, lower});
  }
  columns.push_back({"mean<br>loss", {}, true, true});
  for (const auto& row : rows) {
    columns[0].values.push_back(row.mean_normalised);
    columns[1].values.push_back(row.worst_normalised);
    columns[2].values.push_back(row.mean_value);
    for (size_t t = 0; t < run.tasks.size(); ++t) columns[3 + t].values.push_back(row.values[t]);
    columns.back().values.push_back(mean_loss(run, row.method, split));
  }
  return columns;
}

/// "50,000 scored examples, 10,000 a task", or each task's number where they differ.
std::string examples_text(const RunRecord& run, const std::string& split) {
  std::vector<int64_t> counts;
  int64_t total = 0;
  for (const auto& task : run.tasks)
    for (const auto& line : run.scores)
      if (line.task == task && line.split == split) {
        counts.push_back(line.count);
        total += line.count;
        break;
      }
  const bool same = std::adjacent_find(counts.begin(), counts.end(), std::not_equal_to<>()) == counts.end();
  std::string text = plural_text(total, "scored example");
  if (counts.size() < 2) return text;
  if (same && counts.size() == run.tasks.size()) return fmt::format("{}, {} a task", text, count_text(counts[0]));
  std::string each;
  for (const int64_t count : counts) each += (each.empty() ? "" : " + ") + count_text(count);
  return fmt::format("{} ({})", text, each);
}

std::string scores_table(const RunRecord& run, const std::string& split) {
  auto rows = summarise(run.scores, run.tasks, split);
  std::stable_partition(rows.begin(), rows.end(), [](const RowSummary& row) { return is_reference(row.method); });
  const auto columns = columns_of(run, rows, split);
  std::vector<std::string> headings = {"row"}, best;
  for (const auto& column : columns) {
    headings.push_back(column.heading);
    best.push_back(best_text(column, rows));
  }
  HtmlTable table(
      fmt::format("<b>{}</b> · {} · figures in %{}, loss in nats; the best merged row of each column in bold",
                  escape_html(split), examples_text(run, split),
                  lower_is_better_somewhere(run) ? ", perplexity as it is" : ""),
      headings);
  for (size_t r = 0; r < rows.size(); ++r) {
    const bool reference = is_reference(rows[r].method);
    const auto* merge = run.merge(rows[r].method);
    std::vector<std::string> cells = {escape_html(rows[r].method)};
    if (merge && merge->val_looks > 0)
      cells[0] += fmt::format("<small>{} of val</small>", plural_text(merge->val_looks, "evaluation"));
    for (size_t c = 0; c < columns.size(); ++c) {
      auto text = columns[c].text(r);
      if (!reference && columns[c].values[r] && text == best[c]) text = "<strong>" + text + "</strong>";
      if (c == 1 && columns[c].values[r] && rows[r].method != "expert")
        text += fmt::format(" <small>{}</small>", escape_html(rows[r].worst_task));
      cells.push_back(std::move(text));
    }
    const bool last = reference && r + 1 < rows.size() && !is_reference(rows[r + 1].method);
    table.add(cells, last ? "reference last-reference" : reference ? "reference" : "");
  }
  return html_scroll("Scores on " + escape_html(split), table.html());
}

/// One panel of the comparison; `value` gives a row's figure.
template <class Value>
DotChart dot_chart(const std::string& title, const Choice& choice, bool lower, const Value& value) {
  DotChart chart;
  chart.shares = !lower;
  chart.title = fmt::format("{}, {}", title, choice.split);
  const auto add = [&](const RowSummary& row, Dot::Mark mark) { chart.rows.push_back({row.method, value(row), mark}); };
  for (const auto& row : choice.rows)
    if (row.method == "base") add(row, Dot::Mark::kFrom);
  for (const auto& row : choice.rows)
    if (!is_reference(row.method)) add(row, Dot::Mark::kPlain);
  for (const auto& row : choice.rows)
    if (row.method == "expert") add(row, Dot::Mark::kTo);
  std::optional<double> best;
  for (const auto& dot : chart.rows)
    if (dot.mark == Dot::Mark::kPlain && dot.value)
      best = lower ? std::min(best.value_or(*dot.value), *dot.value) : std::max(best.value_or(*dot.value), *dot.value);
  for (auto& dot : chart.rows) {
    if (dot.mark == Dot::Mark::kPlain && dot.value == best) dot.mark = Dot::Mark::kBest;
    chart.description += fmt::format("{} {}. ", dot.label, score_text(dot.value, chart.shares));
  }
  return chart;
}

using Panels = std::vector<std::pair<std::string, DotChart>>;

/// The mean, where there is one, and each task.
Panels panels_of(const RunRecord& run, const Choice& choice) {
  Panels panels;
  const std::string mean = "Mean of the tasks";
  if (lower_is_better(run) || !lower_is_better_somewhere(run))
    panels.emplace_back(mean,
                        dot_chart(mean, choice, lower_is_better(run), [](const auto& row) { return row.mean_value; }));
  for (size_t t = 0; t < run.tasks.size(); ++t)
    panels.emplace_back(run.tasks[t], dot_chart(run.tasks[t], choice, lower_is_better(run, run.tasks[t]),
                                                [t](const auto& row) { return row.values[t]; }));
  return panels;
}

/// Gives the panels of shares, or the others, one axis that holds them all.
void share_axis(Panels& panels, bool shares) {
  std::vector<double> values;
  for (const auto& [name, chart] : panels)
    for (const auto& dot : chart.rows)
      if (chart.shares == shares && dot.value) values.push_back(*dot.value);
  const auto range = finite_range(values).value_or(std::pair{0.0, 1.0});
  const double margin = std::max(0.02, 0.06 * (range.second - range.first));
  for (auto& [name, chart] : panels)
    if (chart.shares == shares)
      std::tie(chart.low, chart.high) = std::pair(range.first - margin, range.second + margin);
}

}  // namespace

std::string scores_section(const RunRecord& run) {
  if (run.scores.empty())
    return html_section("scores", "Scores", html_missing("<code>scores.jsonl</code> is not there, or empty."));
  std::string body =
      "<p>Normalised: a row’s figure as a share of the expert’s on the same task. <code>base</code> is the model "
      "before fine-tuning; "
      "<code>expert</code> is each task’s own model.</p>\n";
  for (const auto& split : splits_of(run)) body += scores_table(run, split);
  body += intervals(run);
  return html_section("scores", "Scores", body);
}

std::string comparison_section(const RunRecord& run) {
  const auto choice = choose(run);
  if (choice.rows.empty()) return html_section("comparison", "By task", html_missing("Nothing has been scored yet."));
  auto panels = panels_of(run, choice);
  const bool lower = lower_is_better_somewhere(run);
  std::string body = fmt::format(
      "<p>The {} on {}{}. The stem of each row leads from the base (hollow circle) to what the row reaches; the "
      "hollow diamond is the expert; the best merged row of a panel stands out. {}</p>\n"
      "<div class=\"panels\">\n",
      escape_html(metric_word(run)), escape_html(choice.split), lower_is_better(run) ? "" : ", in %",
      lower ? "Perplexity, where lower is better, has an axis of its own." : "All panels share one axis.");
  for (const bool shares : {true, false}) share_axis(panels, shares);
  for (const auto& [name, chart] : panels) body += html_figure(escape_html(name), draw(chart));
  return html_section("comparison", "By task", body + "</div>\n");
}

}  // namespace amalgam
