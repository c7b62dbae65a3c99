#include "solvers/linear/null_space.h"

namespace amalgam {
namespace {

/// The largest eigenvalue of each matrix, or a little less: [L].
at::Tensor largest_eigenvalue(const at::Tensor& matrices) {
  at::Tensor vector = matrices.sum(2, true), length;  // [L, n, 1]; of a Gram matrix it has a part along the first one
  vector = at::where(vector.abs().amax({1, 2}, true) > 0, vector, at::ones_like(vector));
  for (int step = 0; step < 20; ++step) {
    vector = vector / at::linalg_vector_norm(vector, 2, at::IntArrayRef{1, 2}, true).clamp_min(1e-300);
    vector = matrices.bmm(vector);
    length = at::linalg_vector_norm(vector, 2, at::IntArrayRef{1, 2});
  }
  return length;
}

}  // namespace

bool all_regular(const at::Tensor& matrices, double threshold) {
  at::Tensor shifted = matrices.clone();
  at::Tensor diagonal = shifted.diagonal(0, -2, -1);  // [L, n]
  diagonal.sub_(diagonal.sum(-1, true) * threshold);
  return !std::get<1>(at::linalg_cholesky_ex(shifted)).any().item<bool>();
}

at::Tensor hardly_seen_part(const at::Tensor& x, const at::Tensor& matrices, double threshold) {
  const at::Tensor exact = matrices.to(at::kDouble), largest = largest_eigenvalue(exact);  // [L]
  const at::Tensor shift = at::where(largest > 0, largest * threshold, at::ones_like(largest)).view({-1, 1, 1});
  const auto [factor, failed] = at::linalg_cholesky_ex(exact + shift * at::eye(exact.size(1), exact.options()));
  const at::Tensor filtered = at::cholesky_solve(x.to(at::kDouble).transpose(1, 2), factor).transpose(1, 2) * shift;
  // Not positive by more than the threshold: no Gram matrix, of which nothing is known.
  return at::where(failed.eq(0).view({-1, 1, 1}), filtered, at::zeros_like(filtered));
}

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
