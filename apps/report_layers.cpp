// What the solved layers look like: conditioning, rank, how far they moved, and what no task sees.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/html.h"
#include "apps/report_names.h"
#include "apps/report_page.h"
#include "apps/svg_chart.h"

namespace amalgam {
namespace {

bool has_diagnostics(const MergeRecord& merge) {
  return std::any_of(merge.layers.begin(), merge.layers.end(),
                     [](const LayerSolve& layer) { return layer.diagnostics.has_value(); });
}

std::string figure_text(double value) { return std::isfinite(value) ? fmt::format("{:.3g}", value) : "–"; }

/// "12–40", or one figure where the ends read the same.
std::string range_text(const std::vector<double>& values) {
  const auto range = finite_range(values);
  if (!range) return "–";
  const auto low = figure_text(range->first), high = figure_text(range->second);
  return low == high ? low : low + "–" + high;
}

std::string rank_text(const LayerSolve& layer) {
  const auto ranks = range_text(layer.diagnostics->effective_rank);
  return layer.width > 0 ? fmt::format("{} <small>of {}</small>", ranks, count_text(layer.width)) : ranks;
}

std::string unseen_text(double share) {
  if (!std::isfinite(share)) return "–";
  return share > 0 && share < 5e-4 ? "&lt; 0.1 %" : fmt::format("{:.1f} %", 100 * share);
}

std::string layers_table(const MergeRecord& merge) {
  HtmlTable table(fmt::format("<b>{}</b>", escape_html(merge.row)),
                  {"layer", "condition<br>number", "effective rank<br>of the inputs", "moved from<br>the average",
                   "moved from<br>the experts", "share that<br>no task sees"});
  for (const auto& layer : merge.layers) {
    if (!layer.diagnostics) continue;
    const auto& shown = *layer.diagnostics;
    table.add({fmt::format("<code>{}</code>", escape_html(layer.layer)),
               shown.condition ? fmt::format("{:.1e}", *shown.condition) : "–", rank_text(layer),
               figure_text(shown.from_average), range_text(shown.from_expert), unseen_text(shown.unseen)});
  }
  return html_details(fmt::format("{}: all figures", escape_html(merge.row)),
                      html_scroll("Layers of " + escape_html(merge.row), table.html()));
}

/// The average and the experts × layers.
HeatMap distance_map(const MergeRecord& merge) {
  HeatMap map;
  map.title = fmt::format("{}: how far each layer lies from the average and from each expert", merge.row);
  map.description =
      "One row the average, one each expert; one column a layer, in the model’s order; the figures are in the table.";
  map.rows = {"average"};
  for (const auto& expert : merge.experts) map.rows.push_back(expert.task);
  map.values.resize(map.rows.size());
  for (const auto& layer : merge.layers) {
    if (!layer.diagnostics) continue;
    map.columns.push_back(layer.layer);
    map.groups.push_back(block_of(layer.layer));
    map.values[0].push_back(layer.diagnostics->from_average);
    for (size_t m = 0; m + 1 < map.rows.size(); ++m) {
      const auto& distances = layer.diagnostics->from_expert;
      map.values[m + 1].push_back(m < distances.size() ? distances[m] : std::numeric_limits<double>::quiet_NaN());
    }
  }
  return map;
}

constexpr const char* kHowToRead = R"(<dl class="facts">
<dt>condition number</dt><dd>An estimate of what the solver had to cope with; the larger, the more iterations a solve takes
and the more its result depends on when it stops. With a preconditioner it is of the preconditioned system.</dd>
<dt>effective rank</dt><dd>In how many directions an expert’s inputs to the layer vary, (tr A)² / ‖A‖², the least and the
most of the experts; where it is far below the width, the data say little about most of the weight.</dd>
<dt>moved from</dt><dd>The distance of the merged layer from the plain average, and the least and the most of those from the
experts, in units of the average’s size: 0 from the average means that merging by statistics changed nothing here; more
than 1, that the layer has grown in directions that the data hardly fix.</dd>
<dt>no task sees</dt><dd>The share of the weight’s squared size in directions that no task’s statistics cover: there the
merge keeps what it started from, so a large share makes the start matter.</dd>
</dl>
)";

}  // namespace

std::string layers_section(const RunRecord& run) {
  const std::string heading = "What the solved layers look like";
  std::string maps, tables;
  for (const auto& merge : run.merges) {
    if (!has_diagnostics(merge)) continue;
    const auto map = distance_map(merge);
    maps += html_figure(fmt::format("{} <small>distance from the average and from each expert, by layer</small>",
                                    escape_html(merge.row)),
                        html_scroll("Distances of " + escape_html(merge.row), draw(map)));
    tables += layers_table(merge);
  }
  if (maps.empty())
    return html_section("layers", heading, html_missing("No merge of this run says anything about its layers."));
  return html_section("layers", heading, kHowToRead + maps + tables);
}

}  // namespace amalgam
