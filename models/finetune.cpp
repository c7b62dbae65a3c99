#include "models/finetune.h"

#include <torch/optim.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <set>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "models/evaluate.h"
#include "models/loss.h"
#include "models/metric.h"

namespace amalgam {
namespace {

/// Some parameters require gradients, and the model is in training mode, in this scope.
class TrainingScope {
 public:
  TrainingScope(ModelRunner& model, const std::vector<std::string>& frozen) : model_(model) {
    const std::set<std::string> held(frozen.begin(), frozen.end());
    for (const std::string& name : held)
      require_input(std::ranges::count(model.parameter_names(), name) == 1, "cannot freeze '{}': no such parameter{}",
                    name, suggestion(name, model.parameter_names()));
    const NamedTensors parameters = model.parameters();
    for (const std::string& name : model.parameter_names())
      if (!held.contains(name) && parameters.at(name).is_floating_point()) trained_.push_back(parameters.at(name));
    require_input(!trained_.empty(), "there is nothing to train: all {} parameters are frozen", parameters.size());
    for (const at::Tensor& parameter : trained_) {
      required_.push_back(parameter.requires_grad());
      parameter.requires_grad_(true);
    }
    model_.set_training(true);
  }
  ~TrainingScope() {
    for (size_t i = 0; i < trained_.size(); ++i) {
      trained_[i].mutable_grad().reset();
      trained_[i].requires_grad_(required_[i]);
    }
    model_.set_training(false);
  }
  TrainingScope(const TrainingScope&) = delete;
  TrainingScope& operator=(const TrainingScope&) = delete;

  const std::vector<at::Tensor>& trained() const { return trained_; }

 private:
  ModelRunner& model_;
  std::vector<at::Tensor> trained_;
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
    throw InputError(fmt::format("step {} of training: {}; a lower rate may help", step + 1, error.what()));
  }
}

/// Keeps the parameters of the best point.
class BestCheckpoint {
 public:
  explicit BestCheckpoint(const Metric& metric) : metric_(metric) {}

  void offer(const FinetuneResult::Point& point, const ModelRunner& model) {
    const std::pair rank(metric_.merit(point.val_metric), -point.val_loss);
    if (step_ > 0 && rank <= rank_) return;
    std::tie(step_, rank_) = std::pair(point.step, rank);
    values_ = model.parameters();
    values_.merge(model.buffers());
    for (auto& [name, tensor] : values_) tensor = tensor.detach().clone();
  }
  int64_t restore(ModelRunner& model) const {
    model.set(values_);
    return step_;
  }

 private:
  const Metric& metric_;
  int64_t step_ = 0;
  std::pair<double, double> rank_;  // of the step's point: merit, −loss
  NamedTensors values_;
};

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
}

double learning_rate(const FinetuneOptions& options, int64_t step) {
  const auto steps = static_cast<double>(options.steps);
  const double rising = std::floor(options.warmup * steps), now = static_cast<double>(step);
  if (now < rising) return options.rate * (now + 1) / rising;
  return options.rate * 0.5 * (1 + std::cos(std::numbers::pi * (now - rising) / (steps - rising)));
}

FinetuneResult finetune(ModelRunner& model, BatchSource& train, BatchSource& val, const LossSpec& loss,
                        const std::string& metric, const std::vector<std::string>& frozen,
                        const FinetuneOptions& options, Progress& progress) {
  const TrainingScope scope(model, frozen);
  torch::optim::AdamW optimiser = make_optimiser(scope.trained(), options);
  const int64_t every = options.evaluate_every > 0 ? options.evaluate_every : (options.steps + 4) / 5;
  SilentProgress silent;
  FinetuneResult result;
  BestCheckpoint best(fitting_metric(metric, loss));
  // Float64 on the device: a host read a step would wait for it.
  at::Tensor losses = at::zeros({}, at::TensorOptions(model.device()).dtype(at::kDouble));
  int64_t summed = 0;
  std::string note;

  train.reset();
  progress.begin("train", options.steps);
  for (int64_t step = 0; step < options.steps; ++step) {
    const at::Tensor mean = training_loss(model, next_batch(train, model.device()), loss, step);
    optimiser.zero_grad();
    mean.backward();
    if (options.clip > 0) clip_gradients(scope.trained(), options.clip);
    set_rate(optimiser, learning_rate(options, step));
    optimiser.step();
    losses += mean.detach();
    ++summed;
    if ((step + 1) % every == 0 || step + 1 == options.steps) {
      const Score score = evaluate(model, val, loss, metric, silent);
      model.set_training(true);
      const double train_loss = losses.item<double>() / static_cast<double>(summed);
      result.curve.push_back({step + 1, train_loss, score.value, score.loss});
      best.offer(result.curve.back(), model);
      note = fmt::format("loss {:.4f}, val {} {:.4f}", train_loss, metric, score.value);
      losses.zero_();
      summed = 0;
    }
    progress.update(step + 1, note);
  }
  progress.end(note);
  result.best_step = best.restore(model);
  return result;
}

}  // namespace amalgam
