#include "apps/collect_task.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <numeric>

#include "apps/collect_rounds.h"
#include "core/digest.h"
#include "core/error.h"
#include "datasets/loader.h"
#include "models/collect.h"
#include "stats/collector.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;

CollectorOptions collector_options(const CollectTask& task) {
  CollectorOptions options = task.options.collector;
  options.folder = task.path.parent_path();
  return options;
}

/// What is left beside the file while it is made: unfinished sums, and the files of finished passes. Their names tell
/// whose they are.
class WorkFiles {
 public:
  WorkFiles(const CollectTask& task, const CollectionPlan& plan)
      : folder_(task.path.parent_path()), stem_(task.path.stem().string() + ".work-") {
    std::string key = task.identity;
    for (const int64_t bytes : plan.pass_bytes) key += fmt::format("/{}", bytes);
    identity_ = digest_of(key);
  }

  const std::string& identity() const { return identity_; }
  fs::path unfinished(size_t pass) const { return file(pass, "unfinished"); }
  fs::path finished(size_t pass) const { return file(pass, "finished"); }

  /// Removes those of other work, or all.
  void remove(bool all) const {
    std::error_code ignored;
    for (const fs::path& path : of_any_work())
      if (all || !is_own(path)) fs::remove(path, ignored);
  }

  /// What this work's files take of the disk.
  double bytes() const {
    double sum = 0;
    for (const fs::path& path : of_any_work())
      if (is_own(path)) sum += static_cast<double>(fs::file_size(path));
    return sum;
  }

 private:
  std::vector<fs::path> of_any_work() const {
    std::vector<fs::path> paths;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder_, ignored))
      if (entry.path().filename().string().starts_with(stem_)) paths.push_back(entry.path());
    return paths;
  }
  /// What a kill left half written has another ending, and is nobody's.
  bool is_own(const fs::path& path) const {
    return path.filename().string().starts_with(prefix()) && path.extension() == ".safetensors";
  }
  std::string prefix() const { return stem_ + identity_.substr(0, 16); }
  fs::path file(size_t pass, const char* state) const {
    return folder_ / fmt::format("{}-{}.{}.safetensors", prefix(), pass + 1, state);
  }

  fs::path folder_;
  std::string stem_, identity_;
};

Statistics collect_pass(const CollectTask& task, const LayerTable& layers, const WorkFiles& files, size_t pass,
                        const ProcessGroup& group, Terminal& terminal) {
  const at::Device device = task.model.device();
  StatisticsCollector collector(layers, task.parameters, task.kinds, collector_options(task));
  const ExampleRange range = task.header.ranges.at(0);
  // Only the root goes on with the sums; all leave out the examples that it has.
  if (group.is_root() && collector.resume(files.unfinished(pass), files.identity(), device))
    terminal.message(fmt::format("collect {}: going on after {} examples", task.header.task, collector.examples()));
  const int64_t done = std::stoll(group.broadcast(std::to_string(collector.examples())));

  LoaderOptions loading;
  loading.batch = task.options.batch;
  loading.first = range.begin + done;
  loading.examples = range.end - range.begin - done;
  loading.drawn = true;
  loading.seed = task.header.seed;
  loading.label = task.header.task;
  loading.part = group.rank();
  loading.parts = group.size();
  Loader loader(task.data, loading);
  const auto reduce = [&] {
    if (group.size() > 1) collector.reduce([&](at::Tensor& sum) { group.sum_to_root(sum); }, group.is_root(), device);
  };
  CollectRounds rounds(loader,
                       {.batch = task.options.batch,
                        .total = range.end - range.begin,
                        .done = done,
                        .checkpoint_every = task.options.checkpoint_every},
                       group, terminal, [&](int64_t) {
                         reduce();
                         if (group.is_root()) collector.save_progress(files.unfinished(pass), files.identity());
                       });
  MessagesOnly messages(terminal);
  terminal.begin("collect", range.end - range.begin);
  collect_observations(task.model, part_of(task.scan, layers), rounds,
                       {task.loss, label_mode_from_name(task.header.label_mode), task.header.seed, task.header.task,
                        task.header.temperature},
                       collector, messages);
  terminal.end("");
  reduce();
  return collector.finish(task.header);
}

int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) return std::stoll(line.substr(13)) << 10;
  return std::numeric_limits<int64_t>::max();
}

void require_memory(const CollectTask& task, const CollectionPlan& plan, int processes) {
  const double needed = static_cast<double>(plan.largest_pass()) * static_cast<double>(processes);
  const auto there = static_cast<double>(available_memory());
  require_input(needed < there,
                "collect {}: the sums take {} of memory in {} process{}, and {} are free; give a budget (--memory, of "
                "each process), keep them in a mapped file (`statistics.place: file`), or keep wide Gram matrices in "
                "blocks",
                task.header.task, format_bytes(needed), processes, processes == 1 ? "" : "es", format_bytes(there));
}

/// @param mapping  processes whose sums grow in mapped files
void require_disk(const CollectTask& task, const CollectionPlan& plan, const WorkFiles& files, int mapping) {
  const fs::path folder = task.path.parent_path();
  // The finished file, the saved progress, and sums that grow in mapped files or wait as finished passes.
  const double needed = static_cast<double>(plan.total()) * (plan.passes.size() > 1 ? 2 : 1) +
                        static_cast<double>(plan.largest_pass()) * static_cast<double>(1 + mapping) - files.bytes();
  const auto there = static_cast<double>(fs::space(folder).available);
  require_input(needed < there,
                "collect {}: the statistics need {} more of disk while they are made, and {} are free in {}; free some "
                "space, or choose another disk with --runs",
                task.header.task, format_bytes(needed), format_bytes(there), folder.string());
}

std::string bytes_text(int64_t bytes) { return bytes == 0 ? "" : format_bytes(static_cast<double>(bytes)); }

}  // namespace

Batch scan_examples(const Dataset& data) {
  constexpr int64_t kScanExamples = 3;  // enough to tell which axis of an activation they are
  std::vector<int64_t> ids(static_cast<size_t>(std::min(kScanExamples, data.size())));
  std::iota(ids.begin(), ids.end(), int64_t{0});
  return data.get(ids);
}

ScanResult part_of(const ScanResult& scan, const LayerTable& layers) {
  ScanResult part;
  part.layers = layers;
  part.needs_graph = scan.needs_graph;
  for (const Layer& layer : layers.layers)
    for (size_t i = 0; i < scan.layers.layers.size(); ++i)
      if (scan.layers.layers[i].name == layer.name && scan.layers.layers[i].kind == layer.kind)
        part.layouts.push_back(scan.layouts[i]);
  return part;
}

CollectionPlan plan_task(const CollectTask& task) {
  return plan_collection(header_of_collection(task.scan.layers, task.parameters, task.kinds, collector_options(task)),
                         task.options.memory);
}

std::string describe_plan(const CollectionPlan& plan, const std::string& place, at::Device device) {
  std::vector<std::vector<std::string>> rows = {
      {"layer", "pass", "input Gram", "output Gram", "squared gradient", "gradient Gram", "other", "sum"}};
  for (const LayerCost& cost : plan.costs) {
    size_t pass = 0;
    for (size_t i = 0; i < plan.passes.size(); ++i)
      if (plan.passes[i].find(cost.layer) != nullptr) pass = i + 1;
    rows.push_back({cost.layer, std::to_string(pass), bytes_text(cost.input_gram), bytes_text(cost.output_gram),
                    bytes_text(cost.squared_gradient), bytes_text(cost.gradient_gram), bytes_text(cost.other),
                    bytes_text(cost.total())});
  }
  const bool on_device = place == "device" && !device.is_cpu();
  const auto at_a_time = static_cast<double>(plan.largest_pass());
  return fmt::format(
      "{}\non the device: {}, in memory: {}, in a mapped file: {}, in the finished file: {}; passes: {}\n",
      format_table(rows), format_bytes(on_device ? at_a_time : 0),
      format_bytes(!on_device && place != "file" ? at_a_time : 0), format_bytes(place == "file" ? at_a_time : 0),
      format_bytes(static_cast<double>(plan.total())), plan.passes.size());
}

void make_room(const CollectTask& task, const CollectionPlan& plan, const ProcessGroup& group, at::Device device) {
  fs::create_directories(task.path.parent_path());
  const WorkFiles files(task, plan);
  if (group.is_root()) files.remove(/*all=*/false);
  group.barrier();
  const std::string& place = task.options.collector.place;
  const int processes = group.local_size();
  if (place == "memory" || (place == "device" && device.is_cpu())) require_memory(task, plan, processes);
  require_disk(task, plan, files, place == "file" ? processes : 0);
  group.barrier();  // or else one takes what another still counts
}

void collect_task(const CollectTask& task, const CollectionPlan& plan, const ProcessGroup& group, Terminal& terminal) {
  const WorkFiles files(task, plan);
  if (plan.passes.size() == 1) {
    const Statistics statistics = collect_pass(task, plan.passes[0], files, 0, group, terminal);
    if (group.is_root()) statistics.save(task.path);
  } else {
    for (size_t pass = 0; pass < plan.passes.size(); ++pass) {
      const bool is_there = group.any(group.is_root() && fs::exists(files.finished(pass)));
      if (is_there) continue;
      terminal.message(fmt::format("collect {}: pass {} of {}", task.header.task, pass + 1, plan.passes.size()));
      const Statistics part = collect_pass(task, plan.passes[pass], files, pass, group, terminal);
      if (group.is_root()) part.save(files.finished(pass), std::numeric_limits<uint64_t>::max());
    }
    if (group.is_root()) {
      std::vector<Statistics> parts;
      for (size_t pass = 0; pass < plan.passes.size(); ++pass) parts.push_back(Statistics::load(files.finished(pass)));
      join_layers(task.scan.layers, parts).save(task.path);
    }
  }
  if (group.is_root()) files.remove(/*all=*/true);
}

}  // namespace amalgam
