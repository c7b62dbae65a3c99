#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/run_folder.h"
#include "apps/scores.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// A finished step, as `Steps::run` recorded it.
struct StepRecord {
  std::string kind, subject, device, version, torch, finished;
  double seconds = 0, peak_host_bytes = 0, peak_device_bytes = 0;
  nlohmann::json inputs, outputs, details;
};

/// How the system of one layer was solved.
struct LayerSolve {
  std::string layer, solver, why;
  int64_t iterations = 0;
  double residual = 0;  ///< the true ‖b − Kx‖ / ‖b‖; NaN where it was not finite
  bool converged = true;
  std::vector<double> history;  ///< relative residual at the start and after each iteration
  std::vector<std::string> notes;
  int64_t width = 0;  ///< of its inputs, the bias among them; 0: not known
  std::optional<LayerDiagnostics> diagnostics;
};

/// One setting that a search tried on `val`.
struct SearchTrial {
  std::vector<std::pair<std::string, std::string>> settings;  ///< option, value
  double mean = 0;

  /// "damping = 1, iterations = 20"
  std::string values() const;
};

/// A parameter, or some rows of one, that the method left to averaging.
struct FallbackRecord {
  std::string parameter, why;
  bool rows_only = false;  ///< its other rows were merged by the method
};

struct MergedExpert {
  std::string task, digest,
      statistics;  ///< digests of the expert's tensors and of its file of statistics; empty: not used
  double weight = 1;
};

/// A merged model, as its `.merge.json` says.
struct MergeRecord {
  std::string row, method, options, base;
  std::vector<MergedExpert> experts;
  std::vector<SearchTrial> search;
  int64_t val_looks = 0;                     ///< how often all of `val` was scored to make it
  std::optional<SearchReport> coefficients;  ///< of a method that searches for them
  std::vector<LayerSolve> layers;
  std::vector<FallbackRecord> fallbacks;
};

/// Everything that the files of a run say. A part that is not there is empty.
struct RunRecord {
  std::string name, title, device, recipe;
  std::optional<int64_t> seed;
  std::vector<std::string> tasks, rows;        ///< rows: the names under `merge`
  std::vector<std::string> donor_rows;         ///< the names under `donors`
  std::vector<int64_t> protocol_sizes;         ///< of the subsets of experts that rows are merged of; empty: none
  std::map<std::string, std::string> metrics;  ///< by task
  std::vector<std::string> private_patterns;
  std::vector<ScoreLine> scores;
  std::string reference;  ///< row that others are compared with; empty: the page chooses
  std::map<std::array<std::string, 3>, std::filesystem::path> predictions;  ///< by row, task, split
  std::vector<StepRecord> steps;      ///< of the recipe's tasks and rows, in the order of the work
  std::vector<MergeRecord> merges;    ///< of the recipe's rows, in its order
  std::vector<std::string> problems;  ///< files that could not be read, and why
  std::vector<std::string> left_out;  ///< records of tasks and rows that the recipe no longer has

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
