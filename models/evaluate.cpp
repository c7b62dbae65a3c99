#include "models/evaluate.h"

#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "models/loss.h"

namespace amalgam {
namespace {

struct Metric {
  std::string name;
  bool normalisable;
  at::Tensor (*sum)(const at::Tensor& output, const at::Tensor& target);  // over the targets that count
};

/// output [..., C], target [...]
at::Tensor correct(const at::Tensor& output, const at::Tensor& target) { return output.argmax(-1).eq(target).sum(); }

const std::vector<Metric>& table() {
  static const std::vector<Metric> metrics = {{"accuracy", true, correct}};
  return metrics;
}

const Metric& find(const std::string& name) {
  for (const Metric& metric : table())
    if (metric.name == name) return metric;
  throw InputError(fmt::format("unknown metric '{}'{}", name, suggestion(name, metric_names())));
}

}  // namespace

const std::vector<std::string>& metric_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Metric& metric : table()) list.push_back(metric.name);
    return list;
  }();
  return names;
}

bool is_normalisable(const std::string& metric) { return find(metric).normalisable; }

Score evaluate(ModelRunner& model, BatchSource& source, const std::string& loss, const std::string& metric,
               Progress& progress) {
  const at::NoGradGuard no_grad;
  const Metric& measure = find(metric);
  model.set_training(false);
  source.reset();
  progress.begin("evaluate", source.examples());
  // Sums in float64, on the device: [metric, loss, targets].
  at::Tensor sums = at::zeros({3}, at::TensorOptions(model.device()).dtype(at::kDouble));
  int64_t done = 0;
  for (Batch batch; source.next(batch);) {
    const Batch here = batch.to(model.device());
    const at::Tensor output = model.forward(here);
    const at::Tensor losses = example_losses(loss, output, here.target);
    sums += at::stack({measure.sum(output, here.target).to(at::kDouble), losses.sum(at::kDouble),
                       here.target.ge(0).sum().to(at::kDouble)});
    progress.update(done += batch.count);
  }
  progress.end();
  sums = sums.cpu();
  const double targets = sums[2].item<double>();
  require_input(targets > 0, "there is nothing to evaluate on: {} examples, none with a target", done);
  return {sums[0].item<double>() / targets, sums[1].item<double>() / targets, static_cast<int64_t>(targets)};
}

}  // namespace amalgam
