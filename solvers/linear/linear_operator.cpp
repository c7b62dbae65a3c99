#include "solvers/linear/linear_operator.h"

namespace amalgam {

void LinearOperator::apply(const at::Tensor& x, at::Tensor& out) const {
  check_operand(*this, x, "x");
  check_operand(*this, out, "out");
  TORCH_CHECK(!x.is_same(out), "LinearOperator::apply: x and out are the same tensor");
  apply_impl(x, out);
}

const std::vector<KroneckerTerm>& LinearOperator::kronecker_terms() const {
  static const std::vector<KroneckerTerm> none;
  return none;
}

at::Tensor LinearOperator::null_part(const at::Tensor&) const { return {}; }

void check_operand(const LinearOperator& op, const at::Tensor& tensor, const char* name) {
  const auto sizes = op.sizes();
  TORCH_CHECK(tensor.defined(), name, " is undefined");
  TORCH_CHECK(tensor.sizes() == at::IntArrayRef(sizes), name, " has sizes ", tensor.sizes(), ", the operator ",
              at::IntArrayRef(sizes));
  TORCH_CHECK(tensor.scalar_type() == at::typeMetaToScalarType(op.options().dtype()), name, " is ",
              tensor.scalar_type(), ", the operator ", op.options().dtype());
  TORCH_CHECK(tensor.device() == op.options().device(), name, " is on ", tensor.device(), ", the operator on ",
              op.options().device());
}

}  // namespace amalgam
