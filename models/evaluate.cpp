#include "models/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "models/metric.h"

namespace amalgam {
namespace {

/// [N, …] of batches [N_b, …]; those of fewer positions [N_b, T_b] are filled up, floating values with NaN.
at::Tensor joined(std::vector<at::Tensor> batches, int64_t filling) {
  int64_t longest = 0;
  for (const at::Tensor& batch : batches)
    if (batch.dim() == 2) longest = std::max(longest, batch.size(1));
  for (at::Tensor& batch : batches)
    if (batch.dim() == 2)
      batch = at::constant_pad_nd(batch, {0, longest - batch.size(1)},
                                  batch.is_floating_point() ? at::Scalar(std::nan("")) : at::Scalar(filling));
  return at::cat(batches);
}

/// Predictions batch by batch.
class PredictionList {
 public:
  void add(LossSpec::Kind loss, const at::Tensor& output, const at::Tensor& target, const at::Tensor& losses) {
    const bool classes = loss == LossSpec::Kind::kCrossEntropy, labels = loss == LossSpec::Kind::kBinaryCrossEntropy;
    prediction_.push_back((classes  ? output.argmax(-1)
                           : labels ? output.gt(0).to(at::kLong)
                                    : output.to(at::kFloat))
                              .cpu());
    target_.push_back(target.cpu());
    loss_.push_back(losses.to(at::kFloat).cpu());
  }
  Predictions all() const { return {joined(prediction_, 0), joined(target_, -100), at::cat(loss_)}; }

 private:
  std::vector<at::Tensor> prediction_, target_, loss_;
};

/// Of a batch that begins at example `first` of the source.
at::Tensor losses_from(int64_t first, const LossSpec& loss, const at::Tensor& output, const at::Tensor& target) {
  try {
    return example_losses(loss, output, target);
  } catch (const ExampleError& error) {
    throw ExampleError(first + error.position(), error.what());
  }
}

}  // namespace

Score evaluate(ModelRunner& model, BatchSource& source, const LossSpec& loss, const std::string& metric,
               Progress& progress, Predictions* predictions) {
  const at::NoGradGuard no_grad;
  check_loss(loss, "loss");
  const Metric& measure = fitting_metric(metric, loss);
  model.set_training(false);
  source.reset();
  progress.begin("evaluate", source.examples());
  // Sums in float64, on the device.
  at::Tensor measured = at::zeros({}, at::TensorOptions(model.device()).dtype(at::kDouble));
  at::Tensor sums = at::zeros({3}, measured.options());  // [loss, its terms, targets]
  int64_t done = 0;
  PredictionList list;
  for (Batch batch; source.next(batch);) {
    const Batch here = batch.to(model.device());
    const at::Tensor output = model.forward(here);
    const at::Tensor losses = losses_from(done, loss, output, here.target);
    measured = measured + measure.sums(loss.kind(), output, here.target);
    sums += at::stack({losses.sum(at::kDouble), loss_terms(loss, here.target).to(at::kDouble),
                       target_counts(loss, here.target).sum().to(at::kDouble)});
    if (predictions) list.add(loss.kind(), output, here.target, losses);
    progress.update(done += batch.count);
  }
  progress.end();
  sums = sums.cpu();
  const double targets = sums[2].item<double>();
  require_input(targets > 0, "there is nothing to evaluate on: {} examples, none with a target", done);
  if (predictions) *predictions = list.all();
  return {measure.value(measured.cpu(), targets), sums[0].item<double>() / sums[1].item<double>(),
          static_cast<int64_t>(targets)};
}

}  // namespace amalgam
