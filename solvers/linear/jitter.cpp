#include "solvers/linear/jitter.h"

namespace amalgam {

at::Tensor add_jitter(at::Tensor& matrices, const at::Tensor& unseen) {
  constexpr double kRounding = 1e-10, kMost = 1e-5;  // of the trace
  TORCH_CHECK(matrices.dim() == 3 && matrices.scalar_type() == at::kDouble, "add_jitter: float64 [L, n, n], not ",
              matrices.scalar_type(), " ", matrices.sizes());
  const at::Tensor trace = matrices.diagonal(0, -2, -1).sum(-1);  // [L], as all below
  at::Tensor trial = matrices.clone();
  trial.diagonal(0, -2, -1).add_((trace * kRounding).unsqueeze(1));
  at::Tensor missing = std::get<1>(at::linalg_cholesky_ex(trial)).ne(0).logical_and_(trace > 0);
  at::Tensor jitter = at::zeros_like(trace);
  for (double share = 10 * kRounding; share < 2 * kMost && missing.any().item<bool>(); share *= 10) {
    trial.copy_(matrices);
    trial.diagonal(0, -2, -1).add_((trace * share).unsqueeze(1));
    const at::Tensor fails = std::get<1>(at::linalg_cholesky_ex(trial)).ne(0);
    jitter.masked_fill_(missing.logical_and(fails.logical_not()), share);
    missing.logical_and_(fails);
  }
  const at::Tensor added = trace * jitter;
  matrices.diagonal(0, -2, -1).add_(added.unsqueeze(1));
  if (unseen.defined()) matrices.sub_(unseen * added.view({-1, 1, 1}));
  return jitter;
}

}  // namespace amalgam
