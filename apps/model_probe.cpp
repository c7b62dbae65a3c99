#include "apps/model_probe.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>
#include <utility>

#include "apps/collect_task.h"
#include "core/error.h"
#include "datasets/loader.h"
#include "models/collect.h"
#include "stats/collector.h"
#include "stats/rows.h"
#include "stats/sum_table.h"

namespace amalgam {
namespace {

/// The merge's own progress says how far the work is; a pass over the examples only gives it the chance to stop.
class CheckpointProgress final : public Progress {
 public:
  CheckpointProgress(const std::function<void()>& checkpoint, Progress& messages)
      : checkpoint_(checkpoint), messages_(messages) {}

  void begin(const std::string&, int64_t) override { checkpoint_(); }
  void update(int64_t, const std::string&) override { checkpoint_(); }
  void end(const std::string&) override {}
  void message(const std::string& text) override { messages_.message(text); }

 private:
  const std::function<void()>& checkpoint_;
  Progress& messages_;
};

/// These layers, and those that hold their sums.
LayerTable table_of(const LayerTable& whole, const std::vector<std::string>& layers, const std::string& task) {
  std::set<std::string> names;
  for (const std::string& name : layers) {
    const Layer* layer = whole.find(name);
    require_input(layer != nullptr, "task '{}': its expert has no layer '{}'; collect its statistics again", task,
                  name);
    names.insert({name, input_gram_owner(whole, *layer)});
  }
  LayerTable table;
  table.aliases = whole.aliases;
  std::copy_if(whole.layers.begin(), whole.layers.end(), std::back_inserter(table.layers),
               [&](const Layer& layer) { return names.contains(layer.name) && has_rows(layer); });
  return table;
}

}  // namespace

ExpertProbe::ExpertProbe(std::vector<ProbedExpert> experts, StatisticsSpec options, uint64_t seed, at::Device device,
                         Progress& progress)
    : experts_(std::move(experts)), options_(std::move(options)), seed_(seed), device_(device), progress_(progress) {}

const ProbedExpert& ExpertProbe::expert(const std::string& task) const {
  for (const ProbedExpert& candidate : experts_)
    if (candidate.task == task) return candidate;
  throw InputError(fmt::format("there is no task '{}' whose expert could be run", task));
}

const ScanResult& ExpertProbe::scan(const ProbedExpert& expert, ModelRunner& model) {
  const auto found = scans_.find(expert.task);
  if (found != scans_.end()) return found->second;
  return scans_.emplace(expert.task, scan_layers(model, scan_examples(*expert.data), expert.loss)).first->second;
}

InputGramSums ExpertProbe::input_grams(const std::string& task, const std::vector<std::string>& layers,
                                       const NamedTensors& replaced, const std::function<void()>& checkpoint) {
  const at::AutoGradMode with_gradients(true);  // merging goes without, but a scan takes some
  const ProbedExpert& asked = expert(task);
  const auto model = open_model(asked.model, device_, {.output = asked.output});
  const ScanResult part = part_of(scan(asked, *model), table_of(scan(asked, *model).layers, layers, task));
  model->set(replaced);

  LoaderOptions loading;
  loading.batch = options_.batch;
  loading.first = options_.first;
  loading.examples = options_.examples;
  loading.drawn = true;
  loading.seed = seed_;
  loading.label = task;
  Loader loader(*asked.data, loading);
  require_input(loader.examples() > 0, "statistics.first: task '{}' has {} examples, and {} is behind them", task,
                asked.data->size(), options_.first);
  StatisticsCollector collector(part.layers, *asked.parameters, {StatisticKind::kInputGram}, options_.collector);
  CheckpointProgress progress(checkpoint, progress_);
  collect_observations(*model, part, loader, {.loss = asked.loss, .task = task}, collector, progress);

  StatisticsHeader header;
  header.task = task;
  const Statistics statistics = collector.finish(std::move(header));
  InputGramSums result;
  result.blocks = statistics.header().blocks;
  for (const auto& [name, info] : statistics.sums().infos()) result.sums[name] = statistics.sums().get(name);
  return result;
}

}  // namespace amalgam
