#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace amalgam {

/// What conjugate gradients on a batch of L items leave behind them, step by step, without a look at the device.
class CgTrace {
 public:
  CgTrace() = default;
  /// @param residual  relative, at the start: float64 [L]
  explicit CgTrace(const at::Tensor& residual);

  /// @param residual     after the step: float64 [L]
  /// @param moves        the items that took it: bool [L]
  /// @param alpha, beta  the step's coefficients: float64 [L]
  /// @param restarts     how often each item has started again so far: int64 [L]
  void add(const at::Tensor& residual, const at::Tensor& moves, const at::Tensor& alpha, const at::Tensor& beta,
           const at::Tensor& restarts);

  /// The residuals by each item's own steps: one that waited while others moved has no steps there.
  /// @return float64 [most steps + 1, L] on the CPU; an item's last value from its last step on
  at::Tensor history() const;

  /// Of each item, from the coefficients up to its first restart, the first 300 at most: solvers/linear/lanczos.h.
  std::vector<std::optional<double>> conditions() const;

 private:
  std::vector<at::Tensor> residuals_, alphas_, betas_;  // float64 [L] each
  std::vector<at::Tensor> moved_;                       // bool [L], one a step
  at::Tensor lanczos_steps_;                            // int64 [L]
};

}  // namespace amalgam
