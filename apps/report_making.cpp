// What the run cost, and how everything in it was made.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "apps/html.h"
#include "apps/report_page.h"
#include "apps/terminal.h"

namespace amalgam {
namespace {

using nlohmann::json;

/// What the work of a kind is called on the page.
std::string kind_text(const std::string& kind) {
  if (kind == "train") return "fine-tuning";
  if (kind == "open") return "opening models";
  if (kind == "collect") return "statistics";
  if (kind == "merge") return "merging";
  if (kind == "evaluate") return "scoring";
  if (kind == "donor") return "donors";
  if (kind == "protocol") return "subsets";
  return escape_html(kind);
}

std::string bar(double share, const std::string& style) {
  return fmt::format(
      "<span class=\"barbox\" aria-hidden=\"true\"><span class=\"{}\" style=\"width:{:.1f}%\"></span></span>", style,
      100 * std::clamp(share, 0.0, 1.0));
}

/// Time and memory of one step, or of all of a kind.
struct Cost {
  std::string name;
  int64_t steps = 1;
  double seconds = 0, host = 0, device = 0;

  void add(const StepRecord& step) {
    seconds += step.seconds;
    host = std::max(host, step.peak_host_bytes);
    device = std::max(device, step.peak_device_bytes);
  }
};

/// A table with bars; the longest and the largest fill theirs.
std::string cost_table(const std::string& caption, const std::vector<Cost>& costs, const Cost& total, bool counted) {
  double longest = 0;
  for (const auto& cost : costs) longest = std::max(longest, cost.seconds);
  const bool device = total.device > 0;
  std::vector<std::string> headings = {"step"};
  if (counted) headings.push_back("steps");
  headings.insert(headings.end(), {"time", "", "peak memory", ""});
  if (device) headings.push_back("on the device");
  HtmlTable table(caption, headings);
  const auto add = [&](const Cost& cost, const std::string& style) {
    std::vector<std::string> cells = {cost.name};
    if (counted) cells.push_back(count_text(cost.steps));
    const bool is_total = !style.empty();
    cells.push_back(format_seconds(cost.seconds));
    cells.push_back(is_total ? "" : bar(cost.seconds / std::max(longest, 1e-9), "bar"));
    cells.push_back(format_bytes(cost.host));
    cells.push_back(is_total ? "" : bar(cost.host / std::max(total.host, 1.0), "bar memory"));
    if (device) cells.push_back(format_bytes(cost.device));
    table.add(cells, style);
  };
  for (const auto& cost : costs) add(cost, "");
  add(total, "total");
  return html_scroll(counted ? "Cost by kind of step" : "Cost of each step", table.html());
}

/// What the steps say of `get`, each once: usually one text.
template <class Get>
std::string all_of(const RunRecord& run, const Get& get) {
  std::set<std::string> texts;
  for (const auto& step : run.steps) texts.insert(get(step));
  std::string joined;
  for (const auto& text : texts) joined += (joined.empty() ? "" : ", ") + escape_html(text);
  return joined;
}

std::string fact(const std::string& name, const std::string& value) {
  return value.empty() ? "" : fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, value);
}

std::string facts(const RunRecord& run) {
  std::string list = fact("amalgam", all_of(run, [](const StepRecord& step) { return step.version; }));
  list += fact("LibTorch", all_of(run, [](const StepRecord& step) { return step.torch; }));
  list += fact("device", all_of(run, [](const StepRecord& step) { return step.device; }));
  if (run.seed) list += fact("seed", std::to_string(*run.seed));
  if (!run.private_patterns.empty()) list += fact("never merged", name_list(run.private_patterns, 20));
  return list.empty() ? "" : "<dl class=\"facts\">\n" + list + "</dl>\n";
}

std::string text_at(const StepRecord* step, const json& object, const char* key) {
  return step && object.is_object() && object.contains(key) && object[key].is_string() ? object[key].get<std::string>()
                                                                                       : "";
}

/// Digests of everything that went in: base, experts, data, statistics.
std::string inputs_table(const RunRecord& run) {
  HtmlTable table("SHA-256 of what went in; a digest copies whole",
                  {"model", "its tensors", "training data", "val data", "its statistics", "made from"}, 5);
  std::vector<std::string> models = {"base"};
  models.insert(models.end(), run.tasks.begin(), run.tasks.end());
  bool any = false;
  for (const auto& model : models) {
    const auto *open = run.step("open", model), *train = run.step("train", model),
               *collect = run.step("collect", model);
    auto data = text_at(train, train ? train->inputs : json(), "train_data");
    if (data.empty()) data = text_at(collect, collect ? collect->inputs : json(), "data");
    std::string statistics, made_from;
    if (collect && !collect->outputs.empty()) statistics = text_at(collect, *collect->outputs.begin(), "sha256");
    if (collect && collect->inputs.contains("examples"))
      made_from = fmt::format(
          "{} examples, {} labels{}", collect->inputs["examples"].dump(), text_at(collect, collect->inputs, "labels"),
          collect->inputs.contains("temperature") ? " at temperature " + collect->inputs["temperature"].dump() : "");
    any = any || open || train || collect;
    table.add({escape_html(model), html_digest(text_at(open, open ? open->details : json(), "digest")),
               html_digest(data), html_digest(text_at(train, train ? train->inputs : json(), "val_data")),
               html_digest(statistics), escape_html(made_from)});
  }
  return any ? html_scroll("Digests of what went in", table.html()) : "";
}

std::string outputs_table(const RunRecord& run) {
  if (run.merges.empty()) return html_missing("No model has been merged yet.");
  HtmlTable table("The merged models", {"row", "method", "file", "SHA-256", "averaged instead"}, 3);
  for (const auto& merge : run.merges) {
    std::string path, digest;
    if (const auto* step = run.step("merge", merge.row))
      for (const auto& [name, output] : step->outputs.items())
        if (name.ends_with(".pt")) {
          path = fmt::format("<code>{}</code> <small>{}</small>", escape_html(name),
                             format_bytes(output.value("size", 0.0)));
          digest = output.value("sha256", "");
        }
    table.add({escape_html(merge.row), escape_html(merge.method), path, html_digest(digest),
               plural_text(static_cast<int64_t>(merge.fallbacks.size()), "parameter")});
  }
  HtmlTable options("", {"row", "options"}, 1);
  for (const auto& merge : run.merges)
    options.add({escape_html(merge.row), fmt::format("<pre>{}</pre>", escape_html(merge.options))});
  return html_scroll("The merged models", table.html()) +
         html_details("The options of each row", html_scroll("Options of each row", options.html()));
}

/// Bytes of the step's files whose names end so, but for adapters; 0 where there is none.
double size_of(const StepRecord* step, const std::string& ending) {
  double bytes = 0;
  if (step && step->outputs.is_object())
    for (const auto& [name, output] : step->outputs.items())
      if (name.ends_with(ending) && name.find(".adapter/") == std::string::npos) bytes += output.value("size", 0.0);
  return bytes;
}

/// The merges that are adapters, too; empty where none is.
std::string adapters_table(const RunRecord& run) {
  HtmlTable table("The merges as adapters, in PEFT’s layout", {"row", "adapter", "of the change lost", "size"}, 1);
  bool any = false;
  for (const auto& merge : run.merges) {
    if (!merge.adapter) continue;
    any = true;
    const bool is_ia3 = merge.adapter->vectors > 0;
    double bytes = 0;
    if (const auto* step = run.step("merge", merge.row); step && step->outputs.is_object())
      for (const auto& [name, output] : step->outputs.items())
        if (name.find(".adapter/") != std::string::npos) bytes += output.value("size", 0.0);
    table.add({escape_html(merge.row),
               is_ia3 ? fmt::format("(IA)³, {}", plural_text(merge.adapter->vectors, "vector"))
                      : fmt::format("LoRA of rank {}", merge.adapter->rank),
               is_ia3 ? "0 %" : percent_text(merge.adapter->lost) + " %", format_bytes(bytes)});
  }
  return any ? html_scroll("The merges as adapters", table.html()) : "";
}

/// What it takes to keep a model for every task: the rows whose tasks keep parts beside the experts themselves.
std::string parts_table(const RunRecord& run) {
  double experts = 0;
  for (const auto& task : run.tasks) experts += size_of(run.step("open", task), ".safetensors");
  HtmlTable table(
      "A model for each task, on disk",
      {"row", "method", "shared tensors", "tasks’ parts", "as one TorchScript file", "of the experts’ size"}, 1);
  bool any = false;
  for (const auto& merge : run.merges) {
    const auto* step = run.step("merge", merge.row);
    const double parts = size_of(step, ".tasks.safetensors"), file = size_of(step, ".pt");
    if (parts == 0) continue;
    any = true;
    table.add({escape_html(merge.row), escape_html(merge.method), format_bytes(size_of(step, ".safetensors") - parts),
               format_bytes(parts), format_bytes(file), experts > 0 ? percent_text(file / experts) + " %" : "–"});
  }
  if (!any) return "";
  table.add({plural_text(static_cast<int64_t>(run.tasks.size()), "expert"), "", "", "",
             experts > 0 ? format_bytes(experts) : "–", experts > 0 ? "100 %" : "–"},
            "total");
  return html_scroll("Size of the models with parts of tasks", table.html());
}

/// How well routers tell tasks apart.
std::string routes_table(const RunRecord& run) {
  std::vector<std::string> headings = {"row"};
  for (const auto& task : run.tasks) headings.push_back(escape_html(task));
  HtmlTable table("Share of val’s examples that a router sends to their own task, of others than it was made of",
                  headings, 1);
  bool any = false;
  for (const auto& merge : run.merges) {
    if (merge.right_routes.empty()) continue;
    any = true;
    std::vector<std::string> cells = {escape_html(merge.row)};
    for (const auto& task : run.tasks) {
      const auto found = std::ranges::find(merge.right_routes, task, &std::pair<std::string, double>::first);
      const bool known = found != merge.right_routes.end() && std::isfinite(found->second);
      cells.push_back(known ? percent_text(found->second) + " %" : "–");
    }
    table.add(cells);
  }
  return any ? html_scroll("Routes", table.html()) : "";
}

/// Parameters that a row could not merge by its method, by reason.
std::string fallback_lists(const RunRecord& run) {
  std::string html;
  for (const auto& merge : run.merges) {
    if (merge.fallbacks.empty()) continue;
    HtmlTable table(fmt::format("<b>{}</b>", escape_html(merge.row)), {"parameter", "why"}, 1);
    for (const auto& fallback : merge.fallbacks)
      table.add({fmt::format("<code>{}</code>{}", escape_html(fallback.parameter),
                             fallback.rows_only ? " <small>some rows</small>" : ""),
                 escape_html(fallback.why)});
    html += html_details(fmt::format("{}: {} averaged instead", escape_html(merge.row),
                                     plural_text(static_cast<int64_t>(merge.fallbacks.size()), "parameter")),
                         html_scroll("Averaged parameters of " + escape_html(merge.row), table.html()));
  }
  return html;
}

std::string unobserved_text(const RunRecord& run) {
  std::string html;
  bool any = false;
  for (const auto* step : run.of_kind("collect")) {
    any = true;
    if (!step->details.contains("unobserved") || step->details["unobserved"].empty()) continue;
    std::vector<std::string> names;
    for (const auto& name : step->details["unobserved"]) names.push_back(name.get<std::string>());
    html += fmt::format("<p>Not observed with the expert of {}: {}.</p>\n", escape_html(step->subject),
                        name_list(names, names.size()));
  }
  if (!html.empty()) return html_details("Parameters that the statistics did not observe", html);
  return any ? "<p class=\"note\">The statistics observed every parameter.</p>\n" : "";
}

}  // namespace

std::string cost_section(const RunRecord& run) {
  const std::string heading = "What it cost";
  if (run.steps.empty()) return html_section("cost", heading, html_missing("No step of this run is finished yet."));
  std::vector<Cost> steps, kinds;
  Cost total{"total", 0};
  for (const auto& step : run.steps) {
    const auto kind = kind_text(step.kind);
    if (kinds.empty() || kinds.back().name != kind) kinds.push_back({kind, 0});
    steps.push_back({fmt::format("{} <small>{}</small>", escape_html(step.subject), kind)});
    for (auto* cost : {&kinds.back(), &steps.back(), &total}) cost->add(step);
    ++kinds.back().steps;
    ++total.steps;
  }
  const std::string body =
      "<p>As measured when each step ran; a step that a later run skipped keeps its figures. Peak memory is the "
      "process’s.</p>\n" +
      cost_table("By kind of work", kinds, total, true) +
      html_details(fmt::format("Each of the {}", plural_text(total.steps, "step")),
                   cost_table("", steps, total, false));
  return html_section("cost", heading, body);
}

std::string making_section(const RunRecord& run) {
  std::string body = facts(run) + inputs_table(run) + outputs_table(run) + adapters_table(run) + parts_table(run) +
                     routes_table(run) + fallback_lists(run) + unobserved_text(run);
  if (run.recipe.empty()) {
    body += html_missing("<code>recipe.resolved.yaml</code> is not there.");
  } else {
    body += html_details("The recipe with every default written out",
                         fmt::format("<pre>{}</pre>\n", escape_html(run.recipe)));
  }
  return html_section("making", "How it was made", body);
}

}  // namespace amalgam
