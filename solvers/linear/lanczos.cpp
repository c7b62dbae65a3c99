#include "solvers/linear/lanczos.h"

#include <algorithm>
#include <cmath>

namespace amalgam {

std::optional<double> condition_estimate(std::span<const double> alpha, std::span<const double> beta) {
  constexpr size_t kMostSteps = 300;
  const size_t steps = std::min(alpha.size(), kMostSteps);
  if (steps < 2) return std::nullopt;
  TORCH_CHECK(beta.size() + 1 >= steps, "condition_estimate: ", beta.size(), " β for ", steps, " α");
  const auto size = static_cast<int64_t>(steps);
  at::Tensor tridiagonal = at::zeros({size, size}, at::kDouble);
  auto values = tridiagonal.accessor<double, 2>();
  for (size_t k = 0; k < steps; ++k) {
    const auto row = static_cast<int64_t>(k);
    values[row][row] = 1 / alpha[k] + (k > 0 ? beta[k - 1] / alpha[k - 1] : 0.0);
    if (k + 1 < steps) values[row][row + 1] = values[row + 1][row] = std::sqrt(beta[k]) / alpha[k];
  }
  if (!tridiagonal.isfinite().all().item<bool>()) return std::nullopt;
  const at::Tensor ritz = at::linalg_eigvalsh(tridiagonal);  // ascending
  const double smallest = ritz.const_data_ptr<double>()[0], largest = ritz.const_data_ptr<double>()[size - 1];
  if (!(smallest > 0)) return std::nullopt;
  return largest / smallest;
}

}  // namespace amalgam
