#include "models/evaluate.h"

#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "models/metric.h"

namespace amalgam {
Score evaluate(ModelRunner& model, BatchSource& source, const LossSpec& loss, const std::string& metric,
               Progress& progress) {
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
  for (Batch batch; source.next(batch);) {
    const Batch here = batch.to(model.device());
    const at::Tensor output = model.forward(here);
    const at::Tensor losses = example_losses(loss, output, here.target);
    measured = measured + measure.sums(loss.kind(), output, here.target);
    sums += at::stack({losses.sum(at::kDouble), loss_terms(loss, here.target).to(at::kDouble),
                       target_counts(loss, here.target).sum().to(at::kDouble)});
    progress.update(done += batch.count);
  }
  progress.end();
  sums = sums.cpu();
  const double targets = sums[2].item<double>();
  require_input(targets > 0, "there is nothing to evaluate on: {} examples, none with a target", done);
  return {measure.value(measured.cpu(), targets), sums[0].item<double>() / sums[1].item<double>(),
          static_cast<int64_t>(targets)};
}

}  // namespace amalgam
