#include "solvers/methods/output_estimate.h"

#include "solvers/linear/kronecker_sum.h"

namespace amalgam {
namespace {

at::Tensor per_item(const at::Tensor& scalars) { return scalars.view({-1, 1, 1}); }

/// 1 / x, and 0 where x is not positive.
at::Tensor positive_reciprocal(const at::Tensor& x) { return at::where(x > 0, x.reciprocal(), at::zeros_like(x)); }

}  // namespace

at::Tensor shrink_to_trace(at::Tensor& matrices, int64_t samples) {
  TORCH_CHECK(samples >= 1, "second moments of ", samples, " samples");
  const auto width = static_cast<double>(matrices.size(-1)), count = static_cast<double>(samples);
  const at::Tensor trace = traces(matrices), square = trace.square();  // [L]
  const at::Tensor of_square = matrices.square().sum({1, 2});          // tr(S²), S symmetric
  const at::Tensor numerator = of_square * (1.0 - 2.0 / width) + square;
  const at::Tensor denominator = (of_square - square / width) * (count + 1.0 - 2.0 / width);
  const at::Tensor share =
      at::where(denominator > 0, (numerator / denominator).clamp_max(1.0), at::ones_like(denominator));
  matrices.mul_(per_item(1.0 - share));
  matrices.diagonal(0, 1, 2).add_((share * trace / width).unsqueeze(1));
  return share;
}

void pool_by_trace(const std::vector<at::Tensor>& matrices, const std::vector<double>& weights, double share) {
  TORCH_CHECK(matrices.size() == weights.size(), matrices.size(), " tasks' matrices with ", weights.size(), " weights");
  if (matrices.empty() || share == 0.0) return;
  at::Tensor mean = at::zeros_like(matrices.front()), total = at::zeros_like(traces(mean));
  for (size_t m = 0; m < matrices.size(); ++m) {
    if (weights[m] <= 0) continue;
    const at::Tensor trace = traces(matrices[m]);
    mean.add_(matrices[m] * per_item(positive_reciprocal(trace)), weights[m]);
    total.add_(trace.gt(0).to(total.scalar_type()), weights[m]);
  }
  mean.mul_(per_item(positive_reciprocal(total)));
  for (at::Tensor matrix : matrices) {
    const at::Tensor trace = traces(matrix);
    matrix.mul_(1.0 - share).add_(mean * per_item(trace), share);
  }
}

}  // namespace amalgam
