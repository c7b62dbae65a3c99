#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/recipe.h"
#include "core/batch.h"
#include "datasets/dataset.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// Examples that go through one model while batch norms are estimated anew.
struct ResetPass {
  std::string task;  ///< whose model runs
  std::unique_ptr<BatchSource> examples;
};

/// So many examples of each task, drawn by the seed. Tasks whose inputs have one shape go together, some of each in
/// every batch: batch norms that normalise by the batch (models/batch_norm_reset.h) then do it by moments of all tasks,
/// as the merged model's will; a task with fewer examples has fewer in each, so that they last. A task with a shape of
/// its own has a pass of its own.
std::vector<ResetPass> reset_passes(const std::vector<std::pair<std::string, const Dataset*>>& tasks,
                                    const EvaluateSpec& spec, uint64_t seed, int64_t examples);

/// Whether every expert's floating buffers are the base's, bit for bit: fine-tuning ran with batch norms as they are in
/// evaluation, and weights have learned to live with the base's means and variances. No for models without any.
bool moments_never_moved(const MergeInput& input);

}  // namespace amalgam
