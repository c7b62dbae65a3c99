#include "solvers/linear/direct.h"

namespace amalgam {
namespace {

at::Tensor norm_of_items(const at::Tensor& batch) {
  return at::linalg_vector_norm(batch, 2, at::IntArrayRef{1, 2}, false, at::kDouble);
}

}  // namespace

Solution solve_two_terms(const LinearOperator& op, const at::Tensor& rhs, const at::Tensor& initial, double tolerance) {
  check_operand(op, rhs, "rhs");
  check_operand(op, initial, "initial");
  const std::vector<KroneckerTerm> terms = op.kronecker_terms();
  TORCH_CHECK(terms.size() == 1 || terms.size() == 2, "solve_two_terms: the operator gives ", terms.size(),
              " Kronecker products");
  const TwoTermPreconditioner inverse(two_part_fit(terms, op.sizes()), op.options(), /*floor=*/0.0);
  const std::vector<int64_t> items = all_items(rhs.size(0));
  at::Tensor x = initial.clone(at::MemoryFormat::Contiguous), image = at::empty_like(x), step = at::empty_like(x);
  at::Tensor scale = norm_of_items(rhs);  // [L], as all norms below
  std::vector<at::Tensor> history;
  for (int round = 0; round < 3; ++round) {
    op.apply(x, image);
    const at::Tensor residual = rhs - image;
    if (round == 0) scale = at::where(scale > 0, scale, norm_of_items(residual).clamp_min(1e-300));
    history.push_back(norm_of_items(residual) / scale);
    if (round == 2) break;
    inverse.apply(residual, step, items);
    x.add_(step);
  }
  Solution solution{x, {}, at::stack(history).cpu()};
  const at::Tensor last = history.back().cpu();
  for (int64_t item = 0; item < last.numel(); ++item) {
    const double residual = last.const_data_ptr<double>()[item];
    const bool converged = residual <= tolerance;
    solution.items.push_back(
        {2, residual, converged,
         converged ? "solved directly" : "solved directly, and rounding keeps the true residual above the tolerance", 0,
         std::nullopt});
  }
  return solution;
}

}  // namespace amalgam
