#include "models/finetune.h"

#include <torch/optim.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <numbers>
#include <set>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/patterns.h"
#include "models/evaluate.h"
#include "models/loss.h"
#include "models/metric.h"

namespace amalgam {
namespace {

/// What one pass of training is of.
struct Stage {
  std::string what;                 ///< for the progress
  std::vector<std::string> frozen;  ///< names of parameters that stay
  bool training_mode = true;
  LowRankAdapter* adapter = nullptr;  ///< trained through its targets
};

/// Some tensors require gradients, and the model is in the stage's mode, in this scope.
class TrainingScope {
 public:
  TrainingScope(ModelRunner& model, const Stage& stage) : model_(model) {
    std::set<std::string> held(stage.frozen.begin(), stage.frozen.end());
    for (const std::string& name : held)
      if (std::ranges::count(model.parameter_names(), name) == 0)
        throw InputError(
            fmt::format("cannot freeze '{}': no such parameter{}", name, suggestion(name, model.parameter_names())));
    if (stage.adapter != nullptr) {
      held.insert(stage.adapter->targets().begin(), stage.adapter->targets().end());
      trained_ = stage.adapter->factors();
      asked_ = stage.adapter->weights();
    }
    const NamedTensors parameters = model.parameters();
    for (const std::string& name : model.parameter_names())
      if (!held.contains(name) && parameters.at(name).is_floating_point()) trained_.push_back(parameters.at(name));
    require_input(!trained_.empty(), "there is nothing to train: all {} parameters are frozen", parameters.size());
    asked_.insert(asked_.end(), trained_.begin(), trained_.end());
    for (const at::Tensor& parameter : asked_) {
      required_.push_back(parameter.requires_grad());
      parameter.requires_grad_(true);
    }
    model_.set_training(stage.training_mode);
  }
  ~TrainingScope() {
    for (size_t i = 0; i < asked_.size(); ++i) {
      asked_[i].mutable_grad().reset();
      asked_[i].requires_grad_(required_[i]);
    }
    model_.set_training(false);
  }
  TrainingScope(const TrainingScope&) = delete;
  TrainingScope& operator=(const TrainingScope&) = delete;

  const std::vector<at::Tensor>& trained() const { return trained_; }

 private:
  ModelRunner& model_;
  std::vector<at::Tensor> trained_, asked_;  // what the optimiser changes; that, and the targets of an adapter
  std::vector<bool> required_;
};

torch::optim::AdamW make_optimiser(const std::vector<at::Tensor>& parameters, const FinetuneOptions& options) {
  std::vector<at::Tensor> matrices, vectors;
  for (const at::Tensor& parameter : parameters) (parameter.dim() > 1 ? matrices : vectors).push_back(parameter);
  const torch::optim::AdamWOptions plain(options.rate);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (const auto& [members, decay] : {std::pair{matrices, options.decay}, std::pair{vectors, 0.0}})
    groups.emplace_back(members, std::make_unique<torch::optim::AdamWOptions>(
                                     torch::optim::AdamWOptions(options.rate).weight_decay(decay)));
  return torch::optim::AdamW(groups, plain);
}

void set_rate(torch::optim::Optimizer& optimiser, double rate) {
  for (auto& group : optimiser.param_groups()) group.options().set_lr(rate);
}

/// Scales all gradients by min(1, limit / norm of them together), without a look at the device.
void clip_gradients(const std::vector<at::Tensor>& parameters, double limit) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : parameters)
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  if (gradients.empty()) return;
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients)).norm();
  at::_foreach_mul_(gradients, norm.add(1e-6).reciprocal().mul(limit).clamp_max(1.0));
}

Batch next_batch(BatchSource& source, at::Device device) {
  Batch batch;
  if (!source.next(batch)) {
    source.reset();
    require_input(source.next(batch), "there is nothing to train on: the training split is empty");
  }
  return batch.to(device);
}

/// The mean over the batch's targets.
at::Tensor training_loss(ModelRunner& model, const Batch& batch, const LossSpec& loss, int64_t step) {
  const at::Tensor output = model.forward(batch);
  try {
    return example_losses(loss, output, batch.target).sum() / loss_terms(loss, batch.target).clamp_min(1);
  } catch (const InputError& error) {
    const bool diverged = !at::isfinite(output.detach()).all().item<bool>();
    throw InputError(
        fmt::format("step {} of training: {}{}", step + 1, error.what(), diverged ? "; a lower rate may help" : ""));
  }
}

/// Keeps the parameters of the best point.
class BestCheckpoint {
 public:
  /// @param adapter  kept with the model's parameters; null: none
  BestCheckpoint(const Metric& metric, LowRankAdapter* adapter) : metric_(metric), adapter_(adapter) {}

  /// @return whether it is the best so far
  bool offer(const FinetuneResult::Point& point, const ModelRunner& model) {
    const std::pair rank(metric_.merit(point.val_metric), -point.val_loss);
    if (step_ > 0 && rank <= rank_) return false;
    std::tie(step_, rank_) = std::pair(point.step, rank);
    values_ = model.parameters();
    values_.merge(model.buffers());
    for (auto& [name, tensor] : values_) tensor = tensor.detach().clone();
    if (adapter_ != nullptr) factors_ = adapter_->values();
    return true;
  }
  int64_t restore(ModelRunner& model) const {
    model.set(values_);
    if (adapter_ != nullptr) adapter_->set(factors_);
    return step_;
  }

 private:
  const Metric& metric_;
  LowRankAdapter* adapter_;
  int64_t step_ = 0;
  std::pair<double, double> rank_;  // of the step's point: merit, −loss
  NamedTensors values_, factors_;
};

/// Everything that training looks at.
struct Work {
  ModelRunner& model;
  BatchSource& train;
  BatchSource& val;
  const LossSpec& loss;
  const std::string& metric;
};

FinetuneResult fit(const Work& work, const Stage& stage, const FinetuneOptions& options, Progress& progress) {
  BestCheckpoint best(fitting_metric(work.metric, work.loss), stage.adapter);
  const TrainingScope scope(work.model, stage);
  torch::optim::AdamW optimiser = make_optimiser(scope.trained(), options);
  const int64_t every = options.evaluate_every > 0 ? options.evaluate_every : (options.steps + 4) / 5;
  SilentProgress silent;
  FinetuneResult result;
  // Float64 on the device: a host read a step would wait for it.
  at::Tensor losses = at::zeros({}, at::TensorOptions(work.model.device()).dtype(at::kDouble));
  int64_t summed = 0, looks_in_vain = 0;
  std::string note;

  work.train.reset();
  progress.begin(stage.what, options.steps);
  for (int64_t step = 0; step < options.steps; ++step) {
    const at::Tensor mean = training_loss(work.model, next_batch(work.train, work.model.device()), work.loss, step);
    optimiser.zero_grad();
    mean.backward();
    if (stage.adapter != nullptr) stage.adapter->take_gradients();
    if (options.clip > 0) clip_gradients(scope.trained(), options.clip);
    set_rate(optimiser, learning_rate(options, step));
    optimiser.step();
    if (stage.adapter != nullptr) stage.adapter->fold();
    losses += mean.detach();
    ++summed;
    if ((step + 1) % every == 0 || step + 1 == options.steps) {
      const Score score = evaluate(work.model, work.val, work.loss, work.metric, silent);
      work.model.set_training(stage.training_mode);
      const double train_loss = losses.item<double>() / static_cast<double>(summed);
      result.curve.push_back({step + 1, train_loss, score.value, score.loss});
      looks_in_vain = best.offer(result.curve.back(), work.model) ? 0 : looks_in_vain + 1;
      note = fmt::format("loss {:.4f}, val {} {:.4f}", train_loss, work.metric, score.value);
      losses.zero_();
      summed = 0;
    }
    progress.update(step + 1, note);
    if (options.patience > 0 && looks_in_vain == options.patience) {
      note += fmt::format("; ended at step {}, val no longer improves", step + 1);
      break;
    }
  }
  progress.end(note);
  result.best_step = best.restore(work.model);
  return result;
}

/// `frozen`, and what no pattern of `options.trainable` names.
std::vector<std::string> held_by(const ModelRunner& model, std::vector<std::string> frozen,
                                 const FinetuneOptions& options) {
  const auto& names = model.parameter_names();
  require_matches("trainable", options.trainable, names);
  std::ranges::copy_if(names, std::back_inserter(frozen),
                       [&](const std::string& name) { return !matches_any(options.trainable, name); });
  return frozen;
}

}  // namespace

void FinetuneOptions::declare(OptionSet& set) {
  set.integer("steps", steps, {1, 1e9}, "batches to train on");
  set.integer("batch", batch, {1, 1e6}, "examples of a batch");
  set.real("rate", rate, {0, 1e3}, "the highest learning rate");
  set.real("warmup", warmup, {0, 1},
           "share of the steps in which the rate rises to it; then it falls to 0 by half a cosine");
  set.real("decay", decay, {0, 1e3}, "weight decay, decoupled; parameters of one axis are spared");
  set.real("clip", clip, {0, OptionSet::kInfinity}, "the largest norm of the gradient; 0: no bound");
  set.integer("evaluate_every", evaluate_every, {0, 1e9}, "steps between looks at `val`; 0: five in all");
  set.integer("patience", patience, {0, 1e9}, "ends after so many looks at `val` without a better one; 0: never");
  set.texts("trainable", trainable, "name patterns of the parameters to train; the others stay");
  set.section("adapter", adapter, "of an expert: what is trained in the place of its weights");
  set.section("heads", heads, "of an expert: a first stage that fits the private parameters alone, which then stay");
}

void FinetuneOptions::Heads::declare(OptionSet& set) {
  set.integer("steps", steps, {0, 1e9}, "batches to fit the private parameters on; 0: they are trained with the rest");
  set.real("rate", rate, {0, 1e3}, "the highest learning rate of these steps");
}

double learning_rate(const FinetuneOptions& options, int64_t step) {
  const auto steps = static_cast<double>(options.steps);
  const double rising = std::floor(options.warmup * steps), now = static_cast<double>(step);
  if (now < rising) return options.rate * (now + 1) / rising;
  return options.rate * 0.5 * (1 + std::cos(std::numbers::pi * (now - rising) / (steps - rising)));
}

FinetuneResult finetune(ModelRunner& model, BatchSource& train, BatchSource& val, const LossSpec& loss,
                        const std::string& metric, const std::vector<std::string>& frozen,
                        const FinetuneOptions& options, Progress& progress, LowRankAdapter* adapter) {
  return fit({model, train, val, loss, metric},
             {.what = "train", .frozen = held_by(model, frozen, options), .adapter = adapter}, options, progress);
}

StagedResult finetune_in_stages(ModelRunner& model, BatchSource& train, BatchSource& val, const LossSpec& loss,
                                const std::string& metric, const std::vector<std::string>& heads,
                                const FinetuneOptions& options, Progress& progress, LowRankAdapter* adapter) {
  const Work work{model, train, val, loss, metric};
  Stage first{.what = "fit heads", .frozen = {}, .training_mode = false};
  for (const std::string& name : model.parameter_names())
    if (std::ranges::count(heads, name) == 0) first.frozen.push_back(name);
  FinetuneOptions of_heads = options;
  of_heads.steps = options.heads.steps;
  of_heads.rate = options.heads.rate;
  StagedResult result;
  result.heads = fit(work, first, of_heads, progress);
  Stage rest{.what = "train", .frozen = held_by(model, heads, options), .adapter = adapter};
  if (adapter != nullptr) rest.frozen = model.parameter_names();
  result.rest = fit(work, rest, options, progress);
  return result;
}

}  // namespace amalgam
