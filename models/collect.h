#pragma once

#include <cstdint>
#include <string>

#include "core/batch.h"
#include "core/observation.h"
#include "core/progress.h"
#include "models/labels.h"
#include "models/layer_scan.h"
#include "models/loss.h"
#include "models/runner.h"

namespace amalgam {

struct CollectOptions {
  LossSpec loss = {};
  LabelMode labels = LabelMode::kTrue;
  uint64_t seed = 0;         ///< of sampled labels
  std::string task = {};     ///< its name, for sampled labels and for messages
  double temperature = 1.0;  ///< τ: of output / τ (models/labels.h)
};

struct CollectResult {
  int64_t examples = 0, batches = 0;
};

/// Runs a model over `source`, from where it stands to its end, and shows `observer` every layer of the table, batch by
/// batch: what it was fed and, where the observer needs them, the gradients of the summed loss by its outputs.
///
/// Without a need for gradients there is no backward pass, and biases (kBias) are not shown. A layer that a batch does
/// not use is not shown either. The model is left in evaluation mode, else as it was. What the observer throws travels
/// out.
///
/// A mask whose length is the number of rows of no layer leaves every row in; `progress.message` says so at the end.
///
/// Where an accelerator has no room for a batch, the batch is run in halves, and no later one is larger than what
/// fitted; `progress.message` says so. The observer is then shown several smaller batches: sums are the same, to
/// rounding.
///
/// @param scan  of this model, by `scan_layers`
/// @throws InputError naming the task, the batch and, where it is one example's fault, the example's number in the
/// split, if an output is not finite (with the first layer that was fed such values), a target is out of range, or the
/// model uses an observed parameter in another way than in the scan; if memory runs out for a single example, or after
/// a part of a batch was shown
CollectResult collect_observations(ModelRunner& runner, const ScanResult& scan, BatchSource& source,
                                   const CollectOptions& options, LayerObserver& observer, Progress& progress);

}  // namespace amalgam
