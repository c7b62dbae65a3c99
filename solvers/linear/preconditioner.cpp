#include "solvers/linear/preconditioner.h"

#include "solvers/linear/kronecker_sum.h"

namespace amalgam {
namespace {

/// U with (S + ρ tr(S)/n I)⁻¹ = Uᵀ U, [L, n, n]; the identity where S is zero or has no factorisation.
at::Tensor inverse_factor(const at::Tensor& matrices, double damping) {
  const at::Tensor identity = at::eye(matrices.size(1), matrices.options()).expand_as(matrices);
  at::Tensor damped = matrices.clone();
  at::Tensor diagonal = damped.diagonal(0, -2, -1);  // [L, n]
  diagonal.add_(diagonal.mean(-1, true) * damping);
  const auto [factor, info] = at::linalg_cholesky_ex(damped);
  const at::Tensor good = info.eq(0).view({-1, 1, 1});
  return at::linalg_solve_triangular(at::where(good, factor, identity), identity, /*upper=*/false);
}

}  // namespace

KroneckerTracePreconditioner::KroneckerTracePreconditioner(const LinearOperator& op, double damping) {
  TORCH_CHECK(!op.kronecker_terms().empty(), "kronecker_trace: the operator is no sum of Kronecker products");
  const TraceFactors mean = trace_factors(op.kronecker_terms());
  const at::Tensor scale = at::where(mean.scale > 0, mean.scale, at::ones_like(mean.scale)).view({-1, 1, 1});
  input_ = inverse_factor(mean.input / scale, damping).to(op.options());
  output_ = inverse_factor(mean.output, damping).to(op.options());
}

void KroneckerTracePreconditioner::apply(const at::Tensor& r, at::Tensor& z) const {
  if (!workspace_.defined()) workspace_ = at::empty_like(r, at::MemoryFormat::Contiguous);
  at::bmm_out(workspace_, output_, r);
  at::bmm_out(z, output_.transpose(1, 2), workspace_);  // U_Bᵀ U_B R
  at::bmm_out(workspace_, z, input_.transpose(1, 2));
  at::bmm_out(z, workspace_, input_);  // … U_Aᵀ U_A
}

const std::vector<std::string>& preconditioner_names() {
  static const std::vector<std::string> names{"none", "kronecker_trace"};
  return names;
}

std::unique_ptr<Preconditioner> make_preconditioner(const std::string& name, const LinearOperator& op) {
  if (name == "none") return nullptr;
  TORCH_CHECK(name == "kronecker_trace", "unknown preconditioner '", name, "'");
  return std::make_unique<KroneckerTracePreconditioner>(op);
}

}  // namespace amalgam
