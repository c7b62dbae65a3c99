#include "solvers/linear/linear_operator.h"

#include <numeric>

namespace amalgam {

void LinearOperator::apply(const at::Tensor& x, at::Tensor& out) const { apply(x, out, all_items(sizes()[0])); }

void LinearOperator::apply(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const {
  check_operand(*this, x, "x");
  check_operand(*this, out, "out");
  TORCH_CHECK(!x.is_same(out), "LinearOperator::apply: x and out are the same tensor");
  TORCH_CHECK(x.is_contiguous() && out.is_contiguous(), "LinearOperator::apply: x and out are contiguous");
  apply_impl(x, out, items);
}

std::vector<KroneckerTerm> LinearOperator::kronecker_terms() const { return {}; }

NullSpace LinearOperator::null_space() const { return {}; }

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

std::vector<int64_t> all_items(int64_t count) {
  std::vector<int64_t> items(static_cast<size_t>(count));
  std::iota(items.begin(), items.end(), 0);
  return items;
}

}  // namespace amalgam
