#include "apps/model_probe.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "apps/collect_task.h"
#include "apps/reset_passes.h"
#include "apps/scores.h"
#include "core/error.h"
#include "core/random.h"
#include "datasets/loader.h"
#include "models/batch_norm_reset.h"
#include "models/collect.h"
#include "models/entropy.h"
#include "models/evaluate.h"
#include "models/metric.h"
#include "models/plain_execution.h"
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

/// The examples of a batch along an endless order of all of them: a new permutation each time round.
std::vector<int64_t> drawn_examples(const ProbeBatch& batch, int64_t size, const RandomStream& draws) {
  const auto count = static_cast<uint64_t>(std::min(batch.examples, size)), all = static_cast<uint64_t>(size);
  std::vector<int64_t> ids, order;
  uint64_t round = 0;
  for (uint64_t place = batch.number * count; ids.size() < count; ++place) {
    if (order.empty() || place / all != round) order = draws.permutation(size, round = place / all);
    ids.push_back(order[place % all]);
  }
  return ids;
}

/// The very same tensors, not equal ones.
bool are_same(const NamedTensors& a, const NamedTensors& b) {
  return std::ranges::equal(
      a, b, [](const auto& x, const auto& y) { return x.first == y.first && x.second.is_same(y.second); });
}

}  // namespace

ExpertProbe::ExpertProbe(std::vector<ProbedExpert> experts, StatisticsSpec options, EvaluateSpec scoring, uint64_t seed,
                         at::Device device, Progress& progress)
    : experts_(std::move(experts)),
      options_(std::move(options)),
      scoring_(std::move(scoring)),
      seed_(seed),
      device_(device),
      progress_(progress) {}

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

ModelRunner& ExpertProbe::opened(const ProbedExpert& expert) {
  auto& model = open_[expert.task];
  if (!model) model = open_model(expert.model, device_, {.output = expert.output});
  return *model;
}

void ExpertProbe::reset_batch_norms(ProbeReset reset) {
  reset_ = std::move(reset);
  reset_of_ = reset_to_ = {};
}

void ExpertProbe::close_models() {
  open_.clear();
  reset_of_ = reset_to_ = {};
}

NamedTensors ExpertProbe::with_own_batch_norms(const NamedTensors& replaced, Progress& progress) {
  if (reset_.examples == 0) return replaced;
  if (!reset_of_.empty() && are_same(replaced, reset_of_)) return reset_to_;
  BatchNormReset reset;
  std::vector<std::pair<std::string, const Dataset*>> data;
  for (const std::string& task : reset_.tasks) data.emplace_back(task, expert(task).data);
  for (const ResetPass& pass : reset_passes(data, scoring_, seed_, reset_.examples)) {
    ModelRunner& model = opened(expert(pass.task));
    model.set(replaced);
    reset.add(model, *pass.examples, progress);
  }
  reset_of_ = reset_to_ = replaced;
  for (const auto& [name, value] : reset.buffers())
    if (replaced.contains(name)) reset_to_[name] = value;
  return reset_to_;
}

double ExpertProbe::score_one(const ProbedExpert& expert, Progress& progress) {
  Loader loader(expert.split(Split::kVal), scored_examples(scoring_, seed_, expert.task));
  return evaluate(opened(expert), loader, expert.loss, expert.metric, progress).value;
}

/// NaN where an output is not finite. The expert itself was scored before: its data are right.
double ExpertProbe::score_merged(const ProbedExpert& expert, const NamedTensors& merged, Progress& progress) {
  opened(expert).set(merged);
  try {
    return score_one(expert, progress);
  } catch (const ExampleError&) {
    return std::numeric_limits<double>::quiet_NaN();
  }
}

ProbeScore ExpertProbe::score(const std::vector<std::string>& tasks, const NamedTensors& replaced,
                              const std::function<void()>& checkpoint) {
  const PlainExecution plain;
  CheckpointProgress progress(checkpoint, progress_);
  const NamedTensors merged = with_own_batch_norms(replaced, progress);
  ProbeScore result;
  for (const std::string& task : tasks) {
    const ProbedExpert& asked = expert(task);
    const Metric& metric = find_metric(asked.metric);
    result.lower_is_better = !metric.higher_is_better;
    // Before anything is replaced, the first time: the expert itself.
    if (!expert_scores_.contains(task)) {
      open_.erase(task);
      expert_scores_[task] = score_one(asked, progress);
    }
    const double value = score_merged(asked, merged, progress);
    const bool divided = metric.normalisable && expert_scores_.at(task) > 0;
    result.mean += (divided ? value / expert_scores_.at(task) : value) / static_cast<double>(tasks.size());
  }
  return result;
}

ProbeEntropy ExpertProbe::entropy(const std::string& task, const NamedTensors& replaced,
                                  const std::vector<std::string>& by, const ProbeBatch& batch,
                                  const std::function<void()>& checkpoint) {
  const PlainExecution plain;
  checkpoint();
  CheckpointProgress progress(checkpoint, progress_);
  const NamedTensors merged = with_own_batch_norms(replaced, progress);
  const ProbedExpert& asked = expert(task);
  const Dataset& data = asked.split(split_from_name(batch.split));
  const std::vector<int64_t> ids = drawn_examples(batch, data.size(), RandomStream(batch.seed, "entropy/" + task));
  ModelRunner& model = opened(asked);
  model.set(merged);
  try {
    EntropyGradient found = entropy_gradient(model, data.get(ids), asked.loss, by);
    return {found.value, std::move(found.gradient)};
  } catch (const ExampleError& error) {
    throw InputError(fmt::format("task '{}', example {} of {}: {}", task, ids[static_cast<size_t>(error.position())],
                                 batch.split, error.what()));
  }
}

}  // namespace amalgam
