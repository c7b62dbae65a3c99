#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/options.h"
#include "core/progress.h"
#include "models/loss.h"
#include "models/runner.h"

namespace amalgam {

struct FinetuneOptions {
  int64_t steps = 300;
  int64_t batch = 64;  ///< for whoever makes the source of training batches; `finetune` takes them as they come
  double rate = 5e-4;
  double warmup = 0.1;
  double decay = 0.01;
  double clip = 1.0;
  int64_t evaluate_every = 0;

  void declare(OptionSet& set);
};

struct FinetuneResult {
  struct Point {
    int64_t step = 0;
    double train_loss = 0;  ///< mean over the steps since the point before
    double val_metric = 0, val_loss = 0;
  };
  std::vector<Point> curve;
  int64_t best_step = 0;  ///< whose parameters the model has at the end
};

/// The learning rate of step 0 … steps-1: a line up over the first `warmup` · steps of them, then half a cosine down to
/// 0.
double learning_rate(const FinetuneOptions& options, int64_t step);

/// Trains a model with AdamW on the mean loss of each batch's targets (`loss_terms`), and leaves it, in evaluation
/// mode, with the parameters and buffers that had the best metric on `val` (of equal ones, the lower loss; of equal
/// ones, the earlier).
///
/// Weight decay (decoupled: θ ← θ - rate · decay · θ) spares parameters of one axis. `clip` bounds the norm of the
/// whole gradient. The same sources, model and number of threads give the same parameters, bit for bit; a model's own
/// dropout draws from LibTorch's default generator, which the caller seeds.
/// @param train  starts anew when it is at its end
/// @param frozen names of parameters that are not trained
/// @throws InputError for an unknown name, nothing to train, no data, or a loss that is not finite (the step is named)
/// @throws Interrupted from `progress`
/// @source Loshchilov & Hutter 2019 (AdamW)
FinetuneResult finetune(ModelRunner& model, BatchSource& train, BatchSource& val, const LossSpec& loss,
                        const std::string& metric, const std::vector<std::string>& frozen,
                        const FinetuneOptions& options, Progress& progress);

}  // namespace amalgam
