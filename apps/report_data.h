#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/merge_record.h"
#include "apps/run_folder.h"
#include "apps/scores.h"

namespace amalgam {

/// A finished step, as `Steps::run` recorded it.
struct StepRecord {
  std::string kind, subject, device, version, torch, finished;
  double seconds = 0, peak_host_bytes = 0, peak_device_bytes = 0;
  nlohmann::json inputs, outputs, details;
};

/// Everything that the files of a run say. A part that is not there is empty.
struct RunRecord {
  std::string name, title, device, recipe;
  std::optional<int64_t> seed;
  std::vector<std::string> tasks, rows;                    ///< rows: the names under `merge`
  std::vector<std::string> donor_rows;                     ///< the names under `donors`
  std::vector<std::vector<std::string>> protocol_subsets;  ///< of the tasks, that rows are merged of; empty: none
  std::map<std::string, std::string> metrics;              ///< by task
  std::vector<std::string> private_patterns;
  std::vector<ScoreLine> scores;
  std::string reference;  ///< row that others are compared with; empty: the page chooses
  std::map<std::array<std::string, 3>, std::filesystem::path> predictions;  ///< by row, task, split
  std::vector<StepRecord> steps;      ///< of the recipe's tasks, rows and subsets, in the order of the work
  std::vector<MergeRecord> merges;    ///< of the recipe's rows, in its order
  std::vector<std::string> problems;  ///< files that could not be read, and why
  std::vector<std::string> left_out;  ///< records of what the recipe no longer has
  std::vector<std::string> stale;     ///< rows that were merged anew after they were scored

  /// The steps of a kind, in the order of the work.
  std::vector<const StepRecord*> of_kind(const std::string& kind) const;
  /// The step, or null.
  const StepRecord* step(const std::string& kind, const std::string& subject) const;
  /// The record of a merged row, or null.
  const MergeRecord* merge(const std::string& row) const;
};

/// @throws InputError if the folder holds neither a recipe nor scores nor steps
RunRecord read_run(const RunFolder& folder);

}  // namespace amalgam
