#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "apps/recipe.h"
#include "apps/terminal.h"
#include "core/process_group.h"
#include "datasets/dataset.h"
#include "models/layer_scan.h"
#include "models/runner.h"
#include "stats/collection_plan.h"
#include "stats/statistics.h"

namespace amalgam {

/// The statistics of one expert on its task: what to collect, and of what.
struct CollectTask {
  ModelRunner& model;
  const ScanResult& scan;
  const Dataset& data;
  const std::map<std::string, TensorInfo>& parameters;  ///< dtypes and shapes of the expert's
  const StatisticsSpec& options;
  LossSpec loss;
  std::set<StatisticKind> kinds;
  StatisticsHeader header;     ///< task, loss, labels, ranges, seed, digests, what is not observed
  std::filesystem::path path;  ///< of the file to be made
  std::string identity;        ///< of the work: only what was saved of the same work is gone on with
};

/// The examples that a model's layers are found by.
Batch scan_examples(const Dataset& data);

/// What a scan says of some of its layers.
/// @param layers  of `scan.layers`, by name and kind
ScanResult part_of(const ScanResult& scan, const LayerTable& layers);

/// Which passes, and what their sums take.
/// @throws InputError if a layer does not fit into `options.memory`
CollectionPlan plan_task(const CollectTask& task);

/// The plan as a table: bytes by layer and statistic, and the passes.
std::string describe_plan(const CollectionPlan& plan, const std::string& place, at::Device device);

/// Removes what was saved of other work beside the file, and checks that memory and disk can hold the sums of the
/// group's processes on this machine. Returns when all have looked.
/// @throws InputError that says how much is missing, and the way out
void make_room(const CollectTask& task, const CollectionPlan& plan, const ProcessGroup& group, at::Device device);

/// Collects, once there is room, in as many passes as the plan has, together with the other processes of the group, and
/// saves the file (on the root). Progress is saved beside it every `options.checkpoint_every` examples and when the
/// program is asked to stop; called again with the same identity, it goes on from there, and comes to the same file
/// byte by byte.
void collect_task(const CollectTask& task, const CollectionPlan& plan, const ProcessGroup& group, Terminal& terminal);

}  // namespace amalgam
