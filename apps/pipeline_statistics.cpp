// Statistics of each expert on its task.
#include <algorithm>
#include <numeric>

#include "apps/pipeline.h"
#include "core/digest.h"
#include "core/error.h"
#include "datasets/loader.h"
#include "models/collect.h"
#include "models/layer_scan.h"
#include "solvers/check.h"
#include "stats/collector.h"

namespace amalgam {
namespace {

using nlohmann::json;

/// Enough examples to tell which axis of an activation they are.
constexpr int64_t kProbeExamples = 3;

Batch probe_batch(const Dataset& data) {
  std::vector<int64_t> ids(static_cast<size_t>(std::min(kProbeExamples, data.size())));
  std::iota(ids.begin(), ids.end(), int64_t{0});
  return data.get(ids);
}

}  // namespace

/// What the recipe asks for, or else what the rows that were chosen need.
std::set<StatisticKind> Pipeline::needed_kinds() const {
  std::set<StatisticKind> kinds;
  for (const auto& word : recipe_.statistics.kinds) kinds.merge(kinds_from_word(word));
  if (!kinds.empty()) return kinds;
  for (const auto& row : recipe_.merge)
    if (selection_.row.empty() || selection_.row == row.name)
      kinds.merge(make_method(row.method, row.options, "merge." + row.name)->requirements().statistics);
  return kinds;
}

void Pipeline::collect_task(size_t task) {
  auto& state = tasks_[task];
  const auto& spec = recipe_.tasks[task];
  const auto& options = recipe_.statistics;
  if (state.statistics) {
    check_statistics(*state.statistics, state.expert.digest, spec.name);
    return;
  }
  const auto& data = dataset(task, split_from_name(options.split));
  const auto kinds = needed_kinds();
  json names = json::array();
  for (const auto kind : kinds) names.push_back(name_of(kind));
  const json inputs = {
      {"expert", state.expert.digest}, {"data", data.digest()},    {"kinds", names},
      {"examples", options.examples},  {"labels", options.labels}, {"batch", options.batch},
      {"dtype", options.dtype},        {"seed", recipe_.seed},     {"loss", yaml_text(write_options(spec.loss))},
      {"output", spec.output}};
  const auto path = folder().statistics(spec.name);
  const auto record = steps_.run("collect", spec.name, inputs, {path}, [&] {
    const auto model = open_model(state.expert.path, device_, {.output = spec.output});
    const auto scan = scan_layers(*model, probe_batch(data), spec.loss);
    StatisticsHeader header;
    header.task = spec.name;
    header.label_mode = options.labels;
    header.seed = static_cast<uint64_t>(recipe_.seed);
    header.expert_digest = state.expert.digest;
    header.data_digest = data.digest();
    header.unobserved = scan.unobserved;
    LoaderOptions loading;
    loading.batch = options.batch;
    loading.examples = options.examples;
    loading.drawn = true;
    loading.seed = header.seed;
    loading.label = spec.name;
    Loader loader(data, loading);
    CollectorOptions collecting;
    collecting.dtype = options.dtype;
    StatisticsCollector collector(scan.layers, state.expert.tensors->infos(), kinds, collecting);
    terminal_.about(spec.name);
    collect_observations(*model, scan, loader,
                         {spec.loss, label_mode_from_name(options.labels), header.seed, spec.name}, collector,
                         terminal_);
    const auto statistics = collector.finish(header);
    statistics.save(path);
    for (const auto& missing : statistics.header().unobserved)
      terminal_.message(fmt::format("collect {}: not observed: {}", spec.name, missing));
    return json{{"layers", scan.layers.layers.size()}, {"unobserved", statistics.header().unobserved}};
  });
  state.statistics = Statistics::load(path);
  record.at("outputs").begin()->at("sha256").get_to(state.statistics_digest);
}

void Pipeline::collect() {
  make_models();
  for (size_t i = 0; i < tasks_.size(); ++i)
    if (selection_.task.empty() || selection_.task == recipe_.tasks[i].name) collect_task(i);
}

}  // namespace amalgam
