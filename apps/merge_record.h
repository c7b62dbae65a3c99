#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

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

/// A merge as an adapter: low-rank factors, or vectors.
struct AdapterRecord {
  int64_t rank = 0;     ///< of the factors; 0: it is vectors
  double lost = 0.0;    ///< by the cut to the rank, ‖what was left out‖ / ‖change‖
  int64_t vectors = 0;  ///< of (IA)³
};

/// A merged model, as its `.merge.json` says.
struct MergeRecord {
  std::string row, method, options, base;
  std::string inputs;  ///< `digest_of_inputs`; empty in older records
  std::vector<MergedExpert> experts;
  std::vector<SearchTrial> search;
  int64_t val_looks = 0;                     ///< how often all of `val` was scored to make it
  std::optional<SearchReport> coefficients;  ///< of a method that searches for them
  std::vector<LayerSolve> layers;
  std::vector<FallbackRecord> fallbacks;
  /// Of a row with a router: a task's share of examples of `val`, others than it was made of, that go to the task; NaN
  /// where there are none.
  std::vector<std::pair<std::string, double>> right_routes;
  std::optional<AdapterRecord> adapter;  ///< where the merge is one, too
};

/// Reads such a file; what a record of another version lacks is empty or NaN.
/// @throws nlohmann::json::exception where it is none
MergeRecord merge_record(const nlohmann::json& object);

}  // namespace amalgam
