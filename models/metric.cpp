#include "models/metric.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace amalgam {
namespace {

using Kind = LossSpec::Kind;

/// A variance below this share of the mean square is the rounding of sums over values that are all the same.
constexpr double kNoSpread = 1e-12;

/// Right targets, []. A negative class is never right.
at::Tensor right(Kind loss, const at::Tensor& output, const at::Tensor& target) {
  const at::Tensor hits =
      loss == Kind::kBinaryCrossEntropy ? output.gt(0).eq(target.gt(0.5)) : output.argmax(-1).eq(target);
  return hits.sum().to(at::kDouble);
}

double share(const at::Tensor& right, double count) { return right.item<double>() / count; }

/// [tp_k, p_k, t_k] of each class, [3, C]: what F1 and R_K need of the confusion matrix.
at::Tensor class_counts(Kind loss, const at::Tensor& output, const at::Tensor& target) {
  const bool labels = loss == Kind::kBinaryCrossEntropy;
  const int64_t classes = labels ? 2 : output.size(-1);
  const at::Tensor found = (labels ? output.gt(0).to(at::kLong) : output.argmax(-1)).flatten();  // [n]
  const at::Tensor wanted = (labels ? target.gt(0.5).to(at::kLong) : target).flatten();          // [n]
  const at::Tensor counts = wanted.ge(0).to(at::kDouble), known = wanted.clamp_min(0);           // [n]
  const at::Tensor none = at::zeros({classes}, counts.options());
  return at::stack({none.scatter_add(0, known, counts * found.eq(known)), none.scatter_add(0, found, counts),
                    none.scatter_add(0, known, counts)});
}

at::Tensor two_class_counts(Kind loss, const at::Tensor& output, const at::Tensor& target) {
  require_input(loss == Kind::kBinaryCrossEntropy || output.size(-1) == 2,
                "f1 is of two classes, and the model tells {}; use macro_f1", output.size(-1));
  return class_counts(loss, output, target);
}

/// F1 of each class, [C]; NaN where it does not occur.
at::Tensor f1_of_classes(const at::Tensor& counts) { return 2 * counts[0] / (counts[1] + counts[2]); }

double f1_of_class_1(const at::Tensor& counts, double) {
  const double f1 = f1_of_classes(counts)[1].item<double>();
  return std::isnan(f1) ? 0 : f1;
}

double mean_f1(const at::Tensor& counts, double) { return f1_of_classes(counts).nanmean().item<double>(); }

double correlation_of_classes(const at::Tensor& counts, double count) {
  const double right = counts[0].sum().item<double>(), chance = counts[1].dot(counts[2]).item<double>();
  const double outputs = count * count - counts[1].square().sum().item<double>(),
               targets = count * count - counts[2].square().sum().item<double>();
  return outputs > 0 && targets > 0 ? (count * right - chance) / std::sqrt(outputs * targets) : 0;
}

/// Σ −log softmax(f)_y, [].
at::Tensor surprise(Kind, const at::Tensor& output, const at::Tensor& target) {
  return target_losses("cross_entropy", output, target).sum(at::kDouble);
}

double exp_of_mean(const at::Tensor& sum, double count) { return std::exp(sum.item<double>() / count); }

/// [N, …] -> [N, K] in float64: sums of squares nearly cancel.
at::Tensor components(const at::Tensor& values) { return values.to(at::kDouble).reshape({values.size(0), -1}); }

/// [Σ (f − y)², Σ y, Σ y²] of each component, [3, K].
at::Tensor residual_sums(Kind, const at::Tensor& output, const at::Tensor& target) {
  const at::Tensor f = components(output), y = components(target);  // [N, K]
  return at::stack({(f - y).square().sum(0), y.sum(0), y.square().sum(0)});
}

/// Σ (x − mean)² of each component, [K], from Σ x and Σ x²; 0 where all values are the same.
at::Tensor spread(const at::Tensor& sum, const at::Tensor& squares, double examples) {
  const at::Tensor around_mean = squares - sum.square() / examples;
  return around_mean.masked_fill(around_mean.le(kNoSpread * squares), 0);
}

double explained(const at::Tensor& sums, double count) {
  const double examples = count / static_cast<double>(sums.size(1));
  const double around_mean = spread(sums[1], sums[2], examples).sum().item<double>();
  require_input(around_mean > 0,
                "r_squared compares with the spread of the targets around their mean, and all of them are the same");
  return 1 - sums[0].sum().item<double>() / around_mean;
}

/// [Σ f, Σ y, Σ f², Σ y², Σ f y] of each component, [5, K].
at::Tensor product_sums(Kind, const at::Tensor& output, const at::Tensor& target) {
  const at::Tensor f = components(output), y = components(target);  // [N, K]
  return at::stack({f.sum(0), y.sum(0), f.square().sum(0), y.square().sum(0), (f * y).sum(0)});
}

double mean_correlation(const at::Tensor& sums, double count) {
  const double examples = count / static_cast<double>(sums.size(1));
  const at::Tensor of_outputs = spread(sums[0], sums[2], examples), of_targets = spread(sums[1], sums[3], examples);
  const at::Tensor constant = of_targets.eq(0).nonzero();
  require_input(constant.numel() == 0,
                "pearson compares with the spread of the targets, and all of component {} are the same",
                constant.numel() == 0 ? 0 : constant[0].item<int64_t>());
  const at::Tensor shared = sums[4] - sums[0] * sums[1] / examples;  // [K]
  return at::where(of_outputs.gt(0), shared / (of_outputs * of_targets).sqrt(), 0.0).mean().item<double>();
}

const std::vector<Metric>& table() {
  static const std::vector<Metric> metrics = {
      {"accuracy", true, true, {"cross_entropy", "binary_cross_entropy"}, right, share},
      {"f1", true, true, {"cross_entropy", "binary_cross_entropy"}, two_class_counts, f1_of_class_1},
      {"macro_f1", true, true, {"cross_entropy"}, class_counts, mean_f1},
      {"matthews", true, false, {"cross_entropy", "binary_cross_entropy"}, class_counts, correlation_of_classes},
      {"perplexity", false, false, {"cross_entropy"}, surprise, exp_of_mean},
      {"r_squared", true, false, {"mean_squared_error"}, residual_sums, explained},
      {"pearson", true, false, {"mean_squared_error"}, product_sums, mean_correlation}};
  return metrics;
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

const Metric& find_metric(const std::string& name, const std::string& where) {
  for (const Metric& metric : table())
    if (metric.name == name) return metric;
  throw InputError(fmt::format("{}: '{}' is not known{}", where, name, suggestion(name, metric_names())));
}

const Metric& fitting_metric(const std::string& name, const LossSpec& loss, const std::string& where) {
  const Metric& metric = find_metric(name, where);
  if (std::ranges::count(metric.losses, loss.name) > 0) return metric;
  std::vector<std::string> fitting;
  for (const Metric& other : table())
    if (std::ranges::count(other.losses, loss.name) > 0) fitting.push_back(other.name);
  throw InputError(
      fmt::format("{}: '{}' does not go with the loss {}; use {}", where, name, loss.name, fmt::join(fitting, " or ")));
}

}  // namespace amalgam
