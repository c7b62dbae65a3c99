#include "apps/report_page.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/html.h"
#include "apps/report_style.h"

namespace amalgam {
namespace {

/// What could not be read and what was left out: nothing goes missing in silence.
std::string notices(const RunRecord& run) {
  std::string html;
  if (!run.problems.empty()) {
    html +=
        "<div class=\"alert\" role=\"note\"><p><strong>Some files of this run could not be read.</strong></p>\n<ul>\n";
    for (const auto& problem : run.problems) html += fmt::format("<li>{}</li>\n", escape_html(problem));
    html += "</ul></div>\n";
  }
  if (!run.stale.empty())
    html += fmt::format(
        "<div class=\"alert\" role=\"note\"><p><strong>These rows were merged anew after they were scored, and their "
        "scores are of the models before: {}.</strong> <code>amalgam evaluate</code> scores them.</p></div>\n",
        name_list(run.stale, 8));
  if (!run.left_out.empty())
    html += fmt::format("<p class=\"note\">Left out, because the recipe no longer has them: {}.</p>\n",
                        name_list(run.left_out, 8));
  return html;
}

/// "Run cameras · cpu · seed 0 · finished 2025-05-04 10:12 UTC".
std::string run_line(const RunRecord& run) {
  std::string finished, device = run.device;
  for (const auto& step : run.steps) {
    if (step.finished < finished) continue;
    finished = step.finished;
    device = step.device;
  }
  std::string line = "Run " + escape_html(run.name);
  if (!device.empty()) line += " · " + escape_html(device);
  if (run.seed) line += fmt::format(" · seed {}", *run.seed);
  if (finished.size() >= 16)
    line += fmt::format(" · <time datetime=\"{}\">{} {} UTC</time>", escape_html(finished),
                        escape_html(finished.substr(0, 10)), escape_html(finished.substr(11, 5)));
  return line;
}

/// Donors and the protocol are there only where the recipe asks for them.
std::string contents(const RunRecord& run) {
  std::string asked_for = run.donor_rows.empty() ? "" : "<li><a href=\"#donors\">Donors</a></li>";
  if (!run.protocol_subsets.empty()) asked_for += "<li><a href=\"#protocol\">Subsets</a></li>";
  return R"(<nav aria-label="Contents"><ul>
<li><a href="#scores">Scores</a></li><li><a href="#comparison">By task</a></li><li><a href="#searches">Searches</a></li>)" +
         asked_for + R"(<li><a href="#solves">Solves</a></li>
<li><a href="#layers">Layers</a></li><li><a href="#change">Experts’ change</a></li><li><a href="#training">Fine-tuning</a></li><li><a href="#cost">Cost</a></li>
<li><a href="#making">How it was made</a></li>
</ul></nav>
)";
}

}  // namespace

std::string report_page(const RunRecord& run) {
  const auto title = escape_html(run.title.empty() ? run.name : run.title);
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" "
      "content=\"light dark\">\n"
      "<title>{} – amalgam</title>\n<style>\n{}</style>\n</head>\n<body>\n",
      title, report_style());
  page += fmt::format("<header>\n<p class=\"eyebrow\">{}</p>\n<h1>{}</h1>\n{}{}</header>\n{}<main>\n", run_line(run),
                      title, headline(run), notices(run), contents(run));
  for (const auto section :
       {scores_section, comparison_section, searches_section, donors_section, protocol_section, solves_section,
        layers_section, change_section, training_section, cost_section, making_section})
    page += section(run);
  return page +
         "</main>\n<footer><p>Drawn by amalgam from the files of the run; this page needs no "
         "network.</p></footer>\n</body>\n</html>\n";
}

}  // namespace amalgam
