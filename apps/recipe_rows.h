#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// A method with its options.
struct MergeStage {
  std::string method;
  YAML::Node options;  ///< names of other rows replaced by what they stand for
};

/// One row of `merge`.
struct MergeRow {
  std::string name;
  /// What is merged before `method` (`then`): each goes on from the model of the one before it in the base's place, and
  /// `method` from the last one's.
  std::vector<MergeStage> earlier;
  std::string method;
  YAML::Node options;             ///< the method's own; names of other rows replaced by what they stand for
  std::optional<int64_t> seed;    ///< of the row's draws; nothing: the recipe's
  int64_t router = 0;             ///< examples of `val` a task that tell it from others (pipeline_router.cpp); 0: none
  int64_t reset_batch_norms = 0;  ///< examples a task that their means and variances are estimated anew from; 0: merged
  std::vector<std::pair<std::string, std::vector<YAML::Node>>> search;  ///< option -> values to be tried on `val`
};

/// All methods of a row, in their order.
std::vector<MergeStage> stages_of(const MergeRow& row);

/// The same as they are tried: the last method once with each setting of its search.
std::vector<MergeStage> tried_stages(const MergeRow& row);

/// The options of the row's methods, every one as it stands: of one method its own, of several nested by `then`.
/// @param chosen  of the last method, as `MergeRow::options`
YAML::Node written_options(const MergeRow& row, const YAML::Node& chosen);

/// What any of the row's methods needs, with any setting that it tries, of the statistics, of the base's, of the models
/// run and of adapters: of `statistics`, `base_statistics`, `probe` and `adapters`.
MethodRequirements needs_of(const MergeRow& row);

/// The row's options with each combination of the values of its search; only the options where nothing is searched.
std::vector<YAML::Node> settings_of(const MergeRow& row);

/// Whether each task keeps a part of its own beside what the row merges (solvers/methods/task_part_method.h).
bool keeps_task_parts(const MergeRow& row);

/// What the scores of a row are called whose examples are run with the parts that its router chooses.
std::string routed_name(const std::string& row);

/// The names under which scores of an entry of `merge` stand: the row's own, and of one with a router the other.
std::vector<std::string> scored_names(const YAML::Node& entry);

/// One row of `donors`: how another task's expert is merged into a task's own.
struct DonorRow {
  MergeRow merge;
  std::vector<double> weights = {0.1, 0.3, 1.0};  ///< of the donor, the task's own being 1; the best on `val` is taken
};

/// The list `merge` with a row for each seed of those that have `seeds`: {method: dare, seeds: [0, 1]} becomes the rows
/// "dare, seed 0" and "dare, seed 1".
/// @param list  undefined or null: no rows
/// @throws InputError where `seeds` is no list of different seeds
YAML::Node with_seeds(const YAML::Node& list);

/// Reads the list `merge`, with every method's options checked.
/// @throws InputError naming the row and the key
std::vector<MergeRow> read_rows(const YAML::Node& list);

/// Likewise the list `donors`; nothing where there is none.
std::vector<DonorRow> read_donors(const YAML::Node& list);

}  // namespace amalgam
