#include "solvers/linear/null_space.h"

namespace amalgam {
namespace {

/// S − t tr(S) I is positive definite only where every eigenvalue is above t tr(S), and so above t λ_max.
bool all_regular(const at::Tensor& matrices, double threshold) {
  at::Tensor shifted = matrices.clone();
  at::Tensor diagonal = shifted.diagonal(0, -2, -1);  // [L, n]
  diagonal.sub_(diagonal.sum(-1, true) * threshold);
  return !std::get<1>(at::linalg_cholesky_ex(shifted)).any().item<bool>();
}

}  // namespace

at::Tensor null_space_projector(const at::Tensor& matrices, double threshold) {
  TORCH_CHECK(matrices.dim() == 3 && matrices.size(1) == matrices.size(2), "null_space_projector: [L, n, n], not ",
              matrices.sizes());
  const at::Tensor exact = matrices.to(at::kDouble);
  if (all_regular(exact, threshold)) return {};
  const auto [values, vectors] = at::linalg_eigh(exact);                     // [L, n], ascending; [L, n, n]
  const at::Tensor limit = values.slice(-1, -1).clamp_min(0.0) * threshold;  // [L, 1]
  const at::Tensor null_vectors = vectors * (values <= limit).to(at::kDouble).unsqueeze(1);
  return null_vectors.bmm(null_vectors.transpose(1, 2));
}

at::Tensor NullSpace::part(const at::Tensor& x) const {
  at::Tensor part;
  if (input.defined()) part = x.bmm(input.to(x.options()));
  if (output.defined()) {
    const at::Tensor rest = part.defined() ? x - part : x;
    const at::Tensor lost = output.to(x.options()).bmm(rest);
    part = part.defined() ? part + lost : lost;
  }
  return part;
}

}  // namespace amalgam
