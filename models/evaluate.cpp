#include "models/evaluate.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"

namespace amalgam {
namespace {

using Kind = LossSpec::Kind;

/// A metric is a function of sums over the batches.
struct Metric {
  std::string name;
  bool normalisable;
  std::vector<std::string> losses;  ///< that it goes with
  /// Of one batch, on its device.
  at::Tensor (*sums)(Kind loss, const at::Tensor& output, const at::Tensor& target);
  /// @param sums   of all batches, float64 on the CPU
  /// @param count  targets
  double (*value)(const at::Tensor& sums, double count);
};

/// Right targets, []. A negative class is never right.
at::Tensor right(Kind loss, const at::Tensor& output, const at::Tensor& target) {
  if (loss == Kind::kBinaryCrossEntropy) return output.gt(0).eq(target.gt(0.5)).sum();
  return output.argmax(-1).eq(target).sum();
}

double share(const at::Tensor& right, double count) { return right.item<double>() / count; }

/// [Σ (f − y)², Σ y, Σ y²] of each component, [3, K], in float64: the sums of squares nearly cancel.
at::Tensor square_sums(Kind, const at::Tensor& output, const at::Tensor& target) {
  const at::Tensor y = target.to(at::kDouble).reshape({target.size(0), -1});             // [N, K]
  const at::Tensor residual = output.to(at::kDouble).reshape({target.size(0), -1}) - y;  // [N, K]
  return at::stack({residual.square().sum(0), y.sum(0), y.square().sum(0)});
}

double explained(const at::Tensor& sums, double count) {
  const double examples = count / static_cast<double>(sums.size(1));
  const double around_mean = (sums[2] - sums[1].square() / examples).sum().item<double>();
  require_input(around_mean > 0,
                "r_squared compares with the spread of the targets around their mean, and all of them are the same");
  return 1 - sums[0].sum().item<double>() / around_mean;
}

const std::vector<Metric>& table() {
  static const std::vector<Metric> metrics = {
      {"accuracy", true, {"cross_entropy", "binary_cross_entropy"}, right, share},
      {"r_squared", false, {"mean_squared_error"}, square_sums, explained}};
  return metrics;
}

const Metric& find(const std::string& name, const std::string& where) {
  for (const Metric& metric : table())
    if (metric.name == name) return metric;
  throw InputError(fmt::format("{}: '{}' is not known{}", where, name, suggestion(name, metric_names())));
}

const Metric& find(const std::string& name, const LossSpec& loss, const std::string& where) {
  const Metric& metric = find(name, where);
  if (std::ranges::count(metric.losses, loss.name) > 0) return metric;
  std::vector<std::string> fitting;
  for (const Metric& other : table())
    if (std::ranges::count(other.losses, loss.name) > 0) fitting.push_back(other.name);
  throw InputError(
      fmt::format("{}: '{}' does not go with the loss {}; use {}", where, name, loss.name, fmt::join(fitting, " or ")));
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

bool is_normalisable(const std::string& metric) { return find(metric, "metric").normalisable; }

void check_metric(const std::string& metric, const LossSpec& loss, const std::string& where) {
  find(metric, loss, where);
}

Score evaluate(ModelRunner& model, BatchSource& source, const LossSpec& loss, const std::string& metric,
               Progress& progress) {
  const at::NoGradGuard no_grad;
  check_loss(loss, "loss");
  const Metric& measure = find(metric, loss, "metric");
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
    measured = measured + measure.sums(loss.kind(), output, here.target).to(at::kDouble);
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
