#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/process_group.h"
#include "core/progress.h"
#include "solvers/grouping.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// How a merge went.
struct MergeReport {
  std::string method;
  std::vector<LayerReport> layers;          ///< of methods that solve; in the model's order
  std::vector<Fallback> fallbacks;          ///< what the method left aside, in the model's order
  int64_t merged_parameters = 0;            ///< that the method merged itself, whole or in part
  double seconds = 0.0;                     ///< of the pass, which variants share
  std::optional<SearchReport> search = {};  ///< of a method that searches
};

struct MergeOutcome {
  NamedTensors
      merged;  ///< every shared parameter and buffer, on the CPU, contiguous, in the dtype the experts have it in
  /// What each task keeps beside (core/task_parts.h), on the CPU; empty for a method that makes one model of all.
  NamedTensors task_parts;
  MergeReport report;
};

/// How the work is arranged. Nothing here changes a result.
struct MergeArrangement {
  /// Share the groups out; null: this process alone. What merges must then be called alike in all of them.
  const ProcessGroup* processes = nullptr;
  /// Of merged models in memory at a time, by default four times `MergeInput::group_bytes`: as many variants go through
  /// one pass, at least one.
  int64_t merged_bytes = int64_t{4} << 30;
  /// Where searches keep their state, so that one that was stopped goes on; empty: nowhere.
  std::filesystem::path search_folder = {};
  std::string search_identity = {};  ///< as `SearchWork::identity`
};

/// Merges the shared parameters and buffers of experts.
///
/// Checks what the method requires, plans, then streams groups of parameters or layers through it, so that the peak
/// memory is one group times the number of experts. Half precision is computed in float32. What the method leaves aside
/// is the weighted average, and is listed. Buffers are averaged by what the method says of them, and those that are not
/// floating are one expert's (`merged_buffer`). Both are merged first: a method that merges block by block and runs the
/// models meanwhile sees them merged. What a method searches for with the models run (`MergeMethod::search`) it finds
/// before all that.
///
/// A method that keeps parts of tasks is asked for them parameter by parameter when all is merged, by the root; its
/// tasks keep their experts' own buffers.
///
/// Of several processes each merges the groups that fall to it by their cost (solvers/merge_share.h), and the root,
/// which also averages, gathers them; what goes block by block, or searches, is the root's alone. Groups do not depend
/// on the number of processes, so the root's outcome is the same, bit by bit, with equal devices and threads; the
/// others' is empty.
/// @throws InputError if something required is missing, or if a merged value is not finite in the dtype it is stored in
/// @throws Interrupted from `progress`; of several processes in all, when each has come to the end of its groups
MergeOutcome merge(MergeMethod& method, const MergeInput& input, Progress& progress,
                   const MergeArrangement& arrangement = {});

/// Called with the outcome of each variant, in their order: while it runs the other outcomes of its pass wait.
using TakeOutcome = std::function<void(size_t variant, MergeOutcome outcome)>;

/// Merges with several methods, as a rule one with several settings of its options, in one pass over the model where
/// `merged_bytes` allows it: a group is merged by every variant before the next one is read, and variants share what
/// they `remember` of it. Each outcome is what `merge` would give, bit by bit.
/// @param take  of several processes called in the root only
void merge_variants(const std::vector<MergeMethod*>& methods, const MergeInput& input, Progress& progress,
                    const TakeOutcome& take, const MergeArrangement& arrangement = {});

}  // namespace amalgam
