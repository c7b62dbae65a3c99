#pragma once

#include <string>
#include <vector>

#include "core/progress.h"
#include "solvers/grouping.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// How a merge went.
struct MergeReport {
  std::string method;
  std::vector<LayerReport> layers;  ///< of methods that solve; in the model's order
  std::vector<Fallback> fallbacks;  ///< what the method left aside, in the model's order
  int64_t merged_parameters = 0;    ///< that the method merged itself, whole or in part
  double seconds = 0.0;
};

struct MergeOutcome {
  NamedTensors
      merged;  ///< every shared parameter and buffer, on the CPU, contiguous, in the dtype the experts have it in
  MergeReport report;
};

/// Merges the shared parameters and buffers of experts.
///
/// Checks what the method requires, plans, then streams groups of parameters or layers through it, so that the peak
/// memory is one group times the number of experts. Half precision is computed in float32. What the method leaves aside
/// is the weighted average, and is listed. Buffers: floating ones are averaged, others are the first expert's. Both are
/// merged first: a method that merges block by block and runs the models meanwhile sees them merged.
/// @throws InputError if something required is missing, or if a merged value is not finite in the dtype it is stored in
/// @throws Interrupted from `progress`
MergeOutcome merge(MergeMethod& method, const MergeInput& input, Progress& progress);

}  // namespace amalgam
