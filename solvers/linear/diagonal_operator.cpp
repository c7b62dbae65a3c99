#include "solvers/linear/diagonal_operator.h"

namespace amalgam {

DiagonalOperator::DiagonalOperator(at::Tensor diagonal) : diagonal_(std::move(diagonal)) {
  TORCH_CHECK(diagonal_.dim() == 3 && diagonal_.is_floating_point(), "DiagonalOperator: floating [L, out, in], not ",
              diagonal_.scalar_type(), " ", diagonal_.sizes());
}

std::array<int64_t, 3> DiagonalOperator::sizes() const {
  return {diagonal_.size(0), diagonal_.size(1), diagonal_.size(2)};
}

std::vector<KroneckerTerm> DiagonalOperator::kronecker_terms() const {
  const at::Tensor exact = diagonal_.to(at::kDouble);
  const at::Tensor total = exact.sum({1, 2}).view({-1, 1});
  const at::Tensor rows = exact.sum(2) / at::where(total > 0, total, at::ones_like(total));  // [L, out]
  return {{1.0, at::diag_embed(rows).to(diagonal_.options()), at::diag_embed(exact.sum(1)).to(diagonal_.options())}};
}

at::Tensor DiagonalOperator::null_part(const at::Tensor& x) const {
  const at::Tensor unseen = diagonal_ <= 0;
  if (!unseen.any().item<bool>()) return {};
  return at::where(unseen, x, at::zeros_like(x));
}

void DiagonalOperator::apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>&) const {
  at::mul_out(out, x, diagonal_);
}

}  // namespace amalgam
