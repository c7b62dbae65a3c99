#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/options.h"
#include "core/progress.h"
#include "models/adapter.h"
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
  int64_t patience = 0;                     ///< ends after so many looks at `val` without a better one; 0: never
  std::vector<std::string> trainable{"*"};  ///< name patterns; what none of them names is frozen
  AdapterSpec adapter;  ///< for whoever makes a LowRankAdapter; `finetune` trains the one that it is given

  /// Of the first stage of `finetune_in_stages`; the rest is as above.
  struct Heads {
    int64_t steps = 0;
    double rate = 1e-3;

    void declare(OptionSet& set);
  } heads;

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
/// With an adapter its factors are trained, its targets are folded from them before every forward pass and at the end,
/// and what else is neither frozen nor a target is trained as it is.
/// @param train  starts anew when it is at its end
/// @param frozen names of parameters that are not trained; nor are those outside of `options.trainable`
/// @param adapter of this model; null: none
/// @throws InputError for an unknown name, nothing to train, no data, or a loss that is not finite (the step is named)
/// @throws Interrupted from `progress`
/// @source Loshchilov & Hutter 2019 (AdamW)
FinetuneResult finetune(ModelRunner& model, BatchSource& train, BatchSource& val, const LossSpec& loss,
                        const std::string& metric, const std::vector<std::string>& frozen,
                        const FinetuneOptions& options, Progress& progress, LowRankAdapter* adapter = nullptr);

struct StagedResult {
  FinetuneResult heads, rest;
};

/// In two stages: first `heads` alone, `options.heads.steps` steps with everything else frozen and the model in
/// evaluation mode (no dropout, running means stay, no gradient reaches the body); from its best point on all else,
/// with `heads` frozen, as `finetune` does. So the model as it was, with these heads, is a classifier already, which
/// the second stage only improves. With an adapter the second stage trains its factors alone.
/// @param heads  names of parameters
/// @throws as `finetune`
StagedResult finetune_in_stages(ModelRunner& model, BatchSource& train, BatchSource& val, const LossSpec& loss,
                                const std::string& metric, const std::vector<std::string>& heads,
                                const FinetuneOptions& options, Progress& progress, LowRankAdapter* adapter = nullptr);

}  // namespace amalgam
