#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace amalgam {

/// Tells tasks apart: w(x) = softmax(W (φ − μ)/σ + b), a task's share of an example with the features φ(x).
struct TaskRouter {
  at::Tensor mean, deviation;  ///< μ, σ of the features: float64 [F]; σ is 1 where a feature never changes
  at::Tensor weight;           ///< W float64 [M, F]
  at::Tensor bias;             ///< b float64 [M]

  /// @param features  [N, F]
  /// @return float64 [N, M]; each row adds up to one
  at::Tensor shares(const at::Tensor& features) const;
};

struct RouterOptions {
  double penalty = 1e-2;    ///< λ
  double tolerance = 1e-7;  ///< of the largest element of the gradient
  int64_t iterations = 2000;
};

/// Multinomial logistic regression: the W, b that minimise
///   −(1/N) Σ log w_{task(n)}(x_n) + λ/2 ‖W‖²
/// over standardised features, by L-BFGS in float64 from zero, so that equal examples give equal bits. Strictly
/// convex in W, and b is fixed by Σ b = 0: there is one answer, whatever the features are.
/// @param features  [N, F], finite
/// @param task      int64 [N], 0 … tasks − 1
/// @throws InputError where a feature is not finite, or the gradient is not below `tolerance` at the end
/// @source Lu et al. 2024 (Twin-Merging) train a small network on the last layer's embedding by cross entropy; this is
///         its linear form
TaskRouter fit_task_router(const at::Tensor& features, const at::Tensor& task, int64_t tasks,
                           const RouterOptions& options = {});

}  // namespace amalgam
