// The result of a run in one sentence and a few figures.
#include <fmt/format.h>

#include <cmath>

#include "apps/html.h"
#include "apps/report_choice.h"
#include "apps/report_page.h"

namespace amalgam {
namespace {

/// The row of plain averaging, whatever its name.
const RowSummary* average_row(const RunRecord& run, const std::vector<RowSummary>& rows) {
  for (const auto& merge : run.merges)
    if (merge.method == "average") return find_row(rows, merge.row);
  return find_row(rows, "average");
}

/// The row's merit with its unit.
std::string merit_text(const RowSummary& row) { return score_text(merit(row), !row.lower_is_better); }

/// "5.6 points above averaging", "level with averaging"; where figures are no shares "1.2 below averaging".
std::string against(const RowSummary& row, const RowSummary& other, const std::string& what) {
  const double difference = *merit(row) - *merit(other);
  const char* side = difference > 0 ? "above" : "below";
  if (row.lower_is_better)
    return difference == 0 ? "level with " + what
                           : fmt::format("{} {} {}", score_text(std::abs(difference), false), side, what);
  const double rounded = std::round(1000 * difference) / 10;
  if (rounded == 0) return "level with " + what;
  return fmt::format("{:.1f} points {} {}", std::abs(rounded), side, what);
}

std::string result_sentence(const RunRecord& run, const Choice& choice) {
  const auto& best = choice.rows[*choice.best];
  const auto name = escape_html(best.method), figure = merit_text(best), split = escape_html(choice.split);
  auto sentence = best.mean_normalised ? fmt::format("<strong>{} keeps {} of the experts’ {}</strong> on {}", name,
                                                     figure, escape_html(metric_word(run)), split)
                                       : fmt::format("<strong>{} reaches a mean {} of {}</strong> on {}", name,
                                                     escape_html(metric_word(run)), figure, split);
  const auto* average = average_row(run, choice.rows);
  if (average && average->method != best.method) sentence += ", " + against(best, *average, "averaging");
  if (average && average->method == best.method)
    sentence += is_better(*best_merged(choice.rows), best) ? ": no other row did better on val"
                                                           : ": no other row does better than plain averaging";
  return sentence + ".";
}

/// How the row was chosen, and whether the split that is reported would have chosen another.
std::string choice_note(const Choice& choice) {
  const auto split = escape_html(choice.split);
  if (!choice.chosen_on_val)
    return fmt::format(
        "The row is the best of those that were merged, chosen on {0} itself: a figure on examples that had no part in "
        "the choice may be lower.",
        split);
  std::string note = fmt::format(
      "The row is the best of those that were merged by its mean on val; the figure is of {}, which had no part "
      "in the choice.",
      split);
  const auto* best = best_merged(choice.rows);
  if (is_better(*best, choice.rows[*choice.best]))
    note += fmt::format(" On {} itself <code>{}</code> is {}, at {}.", split, escape_html(best->method),
                        best->lower_is_better ? "lower" : "higher", merit_text(*best));
  return note;
}

std::string figure(const std::string& value, const std::string& what) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", what, value);
}

std::string headline_figures(const RunRecord& run, const Choice& choice) {
  const auto& best = choice.rows[*choice.best];
  const auto percent = [](const std::optional<double>& share) { return percent_text(share) + " <small>%</small>"; };
  const auto shown = [&](const RowSummary& row) { return row.lower_is_better ? merit_text(row) : percent(merit(row)); };
  const std::string mean = best.mean_normalised ? "of the experts’ " : "mean ";
  std::string figures = figure(shown(best), fmt::format("{}{}, mean over {}", mean, escape_html(metric_word(run)),
                                                        plural_text(static_cast<int64_t>(run.tasks.size()), "task")));
  if (best.worst_normalised)
    figures +=
        figure(percent(best.worst_normalised), fmt::format("on the worst task, {}", escape_html(best.worst_task)));
  if (const auto* average = average_row(run, choice.rows); average && average->method != best.method)
    figures += figure(shown(*average), "averaging");
  if (const auto* base = find_row(choice.rows, "base")) figures += figure(shown(*base), "the base, not fine-tuned");
  return "<dl class=\"figures\">\n" + figures + "</dl>\n";
}

}  // namespace

std::string headline(const RunRecord& run) {
  if (run.scores.empty())
    return html_missing(
        "This run has no scores yet: <code>amalgam run</code> or <code>amalgam evaluate</code> makes them.");
  const auto choice = choose(run);
  if (!choice.best && lower_is_better_somewhere(run) && !lower_is_better(run))
    return html_missing(
        "In some of the tasks lower is better, in others higher: their scores have no mean, and rows are compared task "
        "by task.");
  if (!choice.best)
    return html_missing("No merged model has been scored on every task yet, so there is no result to tell.");
  return fmt::format("<p class=\"result\">{}</p>\n<p class=\"note\">{}</p>\n{}", result_sentence(run, choice),
                     choice_note(choice), headline_figures(run, choice));
}

}  // namespace amalgam
