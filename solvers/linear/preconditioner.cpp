#include "solvers/linear/preconditioner.h"

#include "solvers/linear/item_products.h"
#include "solvers/linear/kronecker_sum.h"
#include "solvers/linear/simultaneous_eigen.h"

namespace amalgam {
namespace {

constexpr double kJacobiFloor = 1e-12;
constexpr double kNoRange = 1e-12;  // of the largest value: it is zero but for rounding

/// U with (S + ρ tr(S)/n I)⁻¹ = Uᵀ U, [L, n, n]; the identity where S is zero or has no factorisation. U (I − Π) where
/// a projector Π is given.
at::Tensor inverse_factor(const at::Tensor& matrices, const at::Tensor& unseen, double damping) {
  const at::Tensor identity = at::eye(matrices.size(1), matrices.options()).expand_as(matrices);
  at::Tensor damped = matrices.clone();
  at::Tensor diagonal = damped.diagonal(0, -2, -1);  // [L, n]
  diagonal.add_(diagonal.mean(-1, true) * damping);
  const auto [factor, info] = at::linalg_cholesky_ex(damped);
  const at::Tensor good = info.eq(0).view({-1, 1, 1});
  at::Tensor inverse = at::linalg_solve_triangular(at::where(good, factor, identity), identity, /*upper=*/false);
  if (unseen.defined()) inverse = at::where(good, inverse - inverse.bmm(unseen), inverse);
  return inverse;
}

/// Values with every item's floored at `share` of its mean; where that is zero they become one.
at::Tensor floored(const at::Tensor& values, double share) {
  const at::Tensor mean = values.mean({1, 2}, true);  // [L, 1, 1]
  return at::where(mean > 0, at::maximum(values, mean * share), at::ones_like(values));
}

}  // namespace

JacobiPreconditioner::JacobiPreconditioner(const LinearOperator& op)
    : inverse_(floored(op.diagonal().to(at::kDouble), kJacobiFloor).reciprocal().to(op.options())) {}

void JacobiPreconditioner::apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>&) const {
  at::mul_out(z, r, inverse_);
}

KroneckerPreconditioner::KroneckerPreconditioner(const KroneckerPair& factors, const NullSpace& unseen,
                                                 at::TensorOptions options, double damping)
    : squared_(options.dtype() != at::kDouble),
      input_(inverse_factor(factors.input, unseen.input, damping)),
      output_(inverse_factor(factors.output, unseen.output, damping)) {
  if (!squared_) {
    input_ = input_.transpose(1, 2).bmm(input_);
    output_ = output_.transpose(1, 2).bmm(output_);
  }
  input_ = input_.to(options);
  output_ = output_.to(options);
}

void KroneckerPreconditioner::apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>& items) const {
  if (!workspace_.defined()) workspace_ = at::empty_like(r, at::MemoryFormat::Contiguous);
  multiply_items(workspace_, output_, r, items);
  if (!squared_) {
    multiply_items(z, workspace_, input_, items);
    return;
  }
  multiply_items(z, output_.transpose(1, 2), workspace_, items);  // U_Bᵀ U_B R
  multiply_items(workspace_, z, input_.transpose(1, 2), items);
  multiply_items(z, workspace_, input_, items);  // … U_Aᵀ U_A
}

TwoTermPreconditioner::TwoTermPreconditioner(const std::array<KroneckerPair, 2>& factors, at::TensorOptions options,
                                             double floor) {
  const SimultaneousEigen output = simultaneous_eigen(factors[0].output, factors[1].output),
                          input = simultaneous_eigen(factors[0].input, factors[1].input);
  const auto product = [](const at::Tensor& b, const at::Tensor& a) { return b.unsqueeze(2) * a.unsqueeze(1); };
  const at::Tensor values = product(output.first, input.first) + product(output.second, input.second);
  output_ = output.basis.to(options);
  input_ = input.basis.to(options);
  if (floor > 0) {
    inverse_ = floored(values, floor).reciprocal().to(options);
    return;
  }
  const at::Tensor seen = values > values.amax({1, 2}, true) * kNoRange;
  inverse_ = at::where(seen, values.reciprocal(), at::zeros_like(values)).to(options);
}

void TwoTermPreconditioner::apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>& items) const {
  if (!workspace_.defined()) workspace_ = at::empty_like(r, at::MemoryFormat::Contiguous);
  multiply_items(workspace_, output_.transpose(1, 2), r, items);
  multiply_items(z, workspace_, input_, items);
  z.mul_(inverse_);
  multiply_items(workspace_, output_, z, items);
  multiply_items(z, workspace_, input_.transpose(1, 2), items);
}

const std::vector<std::string>& preconditioner_names() {
  static const std::vector<std::string> names{"none", "jacobi", "kronecker_trace", "two_term"};
  return names;
}

std::unique_ptr<Preconditioner> make_preconditioner(const std::string& name, const LinearOperator& op) {
  if (name == "none") return nullptr;
  if (name == "jacobi") return std::make_unique<JacobiPreconditioner>(op);
  const std::vector<KroneckerTerm> terms = op.kronecker_terms();
  TORCH_CHECK(!terms.empty(), "preconditioner '", name, "': the operator gives no Kronecker products");
  if (name == "kronecker_trace")
    return std::make_unique<KroneckerPreconditioner>(trace_fit(terms, op.sizes()), op.null_space(), op.options());
  TORCH_CHECK(name == "two_term", "unknown preconditioner '", name, "'");
  return std::make_unique<TwoTermPreconditioner>(two_part_fit(terms, op.sizes()), op.options());
}

}  // namespace amalgam
