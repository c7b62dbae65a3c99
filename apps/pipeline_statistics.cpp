// Statistics of each expert on its task.
#include <algorithm>

#include "apps/collect_task.h"
#include "apps/model_probe.h"
#include "apps/pipeline.h"
#include "core/error.h"
#include "models/layer_scan.h"
#include "solvers/check.h"

namespace amalgam {
namespace {

using nlohmann::json;

}  // namespace

/// What the recipe asks for, or else what its rows need.
/// @param chosen  a row's name: what that one needs; empty: all of them
std::set<StatisticKind> Pipeline::kinds_for(const std::string& chosen) const {
  std::set<StatisticKind> kinds;
  for (const auto& word : recipe_.statistics.kinds) kinds.merge(kinds_from_word(word));
  if (!kinds.empty()) return kinds;
  for (const auto& row : recipe_.merge)
    if (chosen.empty() || chosen == row.name) kinds.merge(needs_of(row).statistics);
  for (const auto& row : recipe_.donors)
    if (chosen.empty()) kinds.merge(needs_of(row.merge).statistics);
  return kinds;
}

/// What is needed now, and what is there of a collection that was as this one would be: so commands for one row after
/// another do not collect again and again. Where the recipe says what to collect, that.
std::set<StatisticKind> Pipeline::kinds_of_task(size_t task, const Dataset& data) const {
  auto kinds = kinds_for(selection_.row);
  const auto& name = recipe_.tasks[task].name;
  const json last = steps_.last("collect", name);
  if (!recipe_.statistics.kinds.empty() || last.is_null()) return kinds;
  std::set<StatisticKind> there;
  for (const auto& word : last.value("/inputs/kinds"_json_pointer, json::array())) there.merge(kinds_from_word(word));
  if (!steps_.finished("collect", name, collect_inputs(task, data, there), {folder().statistics(name)}).is_null())
    kinds.merge(there);
  return kinds;
}

/// What of a task's statistics depends on the recipe: a collection with equal inputs makes the same file.
json Pipeline::collect_inputs(size_t task, const Dataset& data, const std::set<StatisticKind>& kinds) const {
  const auto& spec = recipe_.tasks[task];
  const auto& options = recipe_.statistics;
  json names = json::array();
  for (const auto kind : kinds) names.push_back(name_of(kind));
  json inputs = {{"expert", tasks_[task].expert.digest},
                 {"file", tasks_[task].expert.file},
                 {"data", data.digest()},
                 {"kinds", names},
                 {"first", options.first},
                 {"examples", options.examples},
                 {"labels", options.labels},
                 {"batch", options.batch},
                 {"dtype", options.collector.dtype},
                 {"products", options.collector.products},
                 {"block_size", options.collector.block_size},
                 {"diagonal", options.collector.diagonal},
                 {"seed", recipe_.seed},
                 {"loss", yaml_text(write_options(spec.loss))},
                 {"output", spec.output}};
  if (options.temperature != 1.0) inputs["temperature"] = options.temperature;
  if (kinds.contains(StatisticKind::kGradientGram)) inputs["vector_limit"] = options.collector.vector_limit;
  return inputs;
}

StatisticsHeader Pipeline::statistics_header(size_t task, const Dataset& data, const ScanResult& scan) const {
  const auto& spec = recipe_.tasks[task];
  const auto& options = recipe_.statistics;
  require_input(options.first < data.size(), "statistics.first: task '{}' has {} examples, and {} is behind them",
                spec.name, data.size(), options.first);
  StatisticsHeader header;
  header.task = spec.name;
  YAML::Node loss = write_options(spec.loss);
  loss.SetStyle(YAML::EmitterStyle::Flow);
  header.loss = yaml_text(loss);
  header.label_mode = options.labels;
  header.temperature = options.temperature;
  header.ranges = {{options.first, std::min(data.size(), options.first + options.examples)}};
  header.seed = static_cast<uint64_t>(recipe_.seed);
  header.expert_digest = tasks_[task].expert.digest;
  header.data_digest = data.digest();
  header.unobserved = scan.unobserved;
  return header;
}

/// Says which parameters that are merged have no statistic, or refuses to go on without.
void Pipeline::report_unobserved(const std::string& task, const std::vector<std::string>& unobserved) {
  std::string merged;
  for (const auto& missing : unobserved) {
    if (is_private(missing.substr(0, missing.find(": ")))) continue;
    terminal_.message(fmt::format("collect {}: not observed: {}", task, missing));
    merged += "\n  " + missing;
  }
  require_input(merged.empty() || !recipe_.statistics.strict,
                "task '{}': parameters that are merged have no statistic:{}\nMake them private, export the model with "
                "operators that are observed (docs/statistics.md), or leave out --strict.",
                task, merged);
}

void Pipeline::collect_task(size_t task) {
  auto& state = tasks_[task];
  const auto& spec = recipe_.tasks[task];
  if (state.statistics) {
    check_statistics(*state.statistics, state.expert.digest, spec.name);
    return;
  }
  const auto& data = dataset(task, split_from_name(recipe_.statistics.split));
  const auto kinds = kinds_of_task(task, data);
  const json inputs = collect_inputs(task, data, kinds);
  const auto path = folder().statistics(spec.name);
  const auto work = [&] {
    const auto model = open_model(state.expert.path, device_, {.output = spec.output});
    const auto scan = scan_layers(*model, scan_examples(data), spec.loss);
    const CollectTask collecting{.model = *model,
                                 .scan = scan,
                                 .data = data,
                                 .parameters = state.expert.tensors->infos(),
                                 .options = recipe_.statistics,
                                 .loss = spec.loss,
                                 .kinds = kinds,
                                 .header = statistics_header(task, data, scan),
                                 .path = path,
                                 .identity = inputs.dump()};
    const auto plan = plan_task(collecting);
    report_unobserved(spec.name, scan.unobserved);
    make_room(collecting, plan, group_, device_);
    terminal_.message(fmt::format("collect {}: the sums of {} layers take {}, in {} pass{} (--plan lists them)",
                                  spec.name, plan.costs.size(), format_bytes(static_cast<double>(plan.total())),
                                  plan.passes.size(), plan.passes.size() == 1 ? "" : "es"));
    terminal_.about(spec.name);
    amalgam::collect_task(collecting, plan, group_, terminal_);
    return json{{"layers", scan.layers.layers.size()}, {"unobserved", scan.unobserved}, {"passes", plan.passes.size()}};
  };
  json record = steps_.finished("collect", spec.name, inputs, {path});
  const bool was_done = group_.any(group_.is_root() && !record.is_null());
  if (group_.is_root()) {
    record = steps_.run("collect", spec.name, inputs, {path}, work);
  } else if (!was_done) {
    work();
  }
  group_.barrier();
  state.statistics = Statistics::load(path);
  if (!group_.is_root()) return;
  if (!was_done) {
    std::vector<std::string> late;  // what the pass over the data told
    const auto& scanned = record.at("details").at("unobserved");
    for (const auto& missing : state.statistics->header().unobserved)
      if (std::find(scanned.begin(), scanned.end(), missing) == scanned.end()) late.push_back(missing);
    report_unobserved(spec.name, late);
  }
  record.at("outputs").begin()->at("sha256").get_to(state.statistics_digest);
}

/// What a method that runs the models depends on of one task, beside its expert.
json Pipeline::probe_inputs(size_t task) const {
  json inputs = collect_inputs(task, *tasks_[task].data.at(split_from_name(recipe_.statistics.split)), {});
  for (const char* key : {"expert", "file", "kinds", "labels", "temperature"}) inputs.erase(key);
  return inputs;
}

/// Made for the first method that asks.
ModelProbe& Pipeline::probe() {
  if (probe_) return *probe_;
  std::vector<ProbedExpert> experts;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const auto& spec = recipe_.tasks[i];
    experts.push_back({.task = spec.name,
                       .model = tasks_[i].expert.path,
                       .output = spec.output,
                       .loss = spec.loss,
                       .data = &dataset(i, split_from_name(recipe_.statistics.split)),
                       .parameters = &tasks_[i].expert.tensors->infos(),
                       .metric = spec.metric,
                       .split = [this, i](Split split) -> const Dataset& { return dataset(i, split); }});
  }
  auto options = recipe_.statistics;
  options.collector.folder = folder().root();  // of sums in mapped files, which have no name there
  probe_ = std::make_unique<ExpertProbe>(std::move(experts), std::move(options), recipe_.evaluate,
                                         static_cast<uint64_t>(recipe_.seed), device_, terminal_);
  return *probe_;
}

void Pipeline::collect() {
  make_models();
  for (size_t i = 0; i < tasks_.size(); ++i)
    if (selection_.task.empty() || selection_.task == recipe_.tasks[i].name) collect_task(i);
}

void Pipeline::plan_statistics() {
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const auto& spec = recipe_.tasks[i];
    if (tasks_[i].statistics || (!selection_.task.empty() && selection_.task != spec.name)) continue;
    const auto& expert = tasks_[i].expert;
    const auto model = expert.tensors  ? open_model(expert.path, device_, {.output = spec.output})
                       : base_.tensors ? new_expert(i)
                                       : untrained_expert(i);
    const auto& data = dataset(i, split_from_name(recipe_.statistics.split));
    const auto scan = scan_layers(*model, scan_examples(data), spec.loss);
    const MemoryTensors parameters(model->parameters());
    const auto plan = plan_task({.model = *model,
                                 .scan = scan,
                                 .data = data,
                                 .parameters = parameters.infos(),
                                 .options = recipe_.statistics,
                                 .loss = spec.loss,
                                 .kinds = kinds_for(selection_.row),
                                 .header = {},
                                 .path = folder().statistics(spec.name),
                                 .identity = ""});
    fmt::print("task {}\n{}\n", spec.name, describe_plan(plan, recipe_.statistics.collector.place, device_));
  }
}

}  // namespace amalgam
