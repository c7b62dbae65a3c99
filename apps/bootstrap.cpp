#include "apps/bootstrap.h"

#include <algorithm>
#include <tuple>

#include "core/error.h"
#include "core/random.h"

namespace amalgam {
namespace {

constexpr double kTail = 0.025;  // of a 95 % interval, at each end

/// How often each kind is drawn when as many are drawn as there are, with replacement: one binomial after the other.
/// @param sizes  of the kinds, float64 [K]
/// @return [K, draws]
at::Tensor multinomial_draws(const at::Tensor& sizes, int64_t draws, at::Generator generator) {
  double rest = sizes.sum().item<double>();
  at::Tensor left = at::full({draws}, rest, at::kDouble);
  std::vector<at::Tensor> drawn;
  for (int64_t k = 0; k + 1 < sizes.size(0); ++k) {
    const double size = sizes[k].item<double>();
    drawn.push_back(at::binomial(left, at::full({draws}, size / rest, at::kDouble), generator));
    left = left - drawn.back();
    rest -= size;
  }
  drawn.push_back(left);
  return at::stack(drawn);
}

/// Of one task: the difference of the two accuracies in each draw, as shares of the expert's, [draws].
at::Tensor task_draws(const PairedTask& task, int64_t draws, const at::Generator& generator) {
  const at::Tensor examples = at::stack({task.difference, task.count}, 1);  // [N, 2]
  const auto [kinds, unused, sizes] =
      at::unique_dim(examples, 0, /*sorted=*/true, /*return_inverse=*/false, /*return_counts=*/true);
  const at::Tensor times = multinomial_draws(sizes.to(at::kDouble), draws, generator);  // [K, draws]
  const at::Tensor sums = kinds.t().matmul(times);                                      // [2, draws]
  return sums[0] / sums[1].clamp_min(1) / task.scale;
}

void require_fitting(const std::vector<PairedTask>& tasks) {
  require_input(!tasks.empty(), "a bootstrap needs the examples of at least one task");
  for (const auto& task : tasks)
    require_input(task.difference.dim() == 1 && task.difference.numel() > 0 &&
                      task.difference.sizes() == task.count.sizes() && task.scale > 0,
                  "a bootstrap needs the difference and the count of each example, and a scale above 0");
}

}  // namespace

Interval paired_bootstrap(const std::vector<PairedTask>& tasks, uint64_t seed, int64_t draws) {
  require_fitting(tasks);
  const auto number = static_cast<double>(tasks.size());
  Interval interval;
  at::Tensor means = at::zeros({draws}, at::kDouble);
  for (size_t t = 0; t < tasks.size(); ++t) {
    const auto& task = tasks[t];
    const double targets = std::max(1.0, task.count.sum().item<double>());
    interval.difference += task.difference.sum().item<double>() / targets / task.scale / number;
    means += task_draws(task, draws, RandomStream(seed, "bootstrap").generator(t)) / number;
  }
  const at::Tensor ends = at::quantile(means, at::tensor({kTail, 1 - kTail}, at::kDouble));
  interval.low = ends[0].item<double>();
  interval.high = ends[1].item<double>();
  return interval;
}

}  // namespace amalgam
