#include "solvers/linear/dense_operator.h"

#include "solvers/linear/null_space.h"

namespace amalgam {

DenseOperator::DenseOperator(at::Tensor matrices, int64_t out, int64_t in)
    : matrices_(std::move(matrices)), out_(out), in_(in) {
  TORCH_CHECK(matrices_.dim() == 3 && matrices_.is_floating_point() && matrices_.size(1) == out * in &&
                  matrices_.size(2) == out * in,
              "DenseOperator: floating [L, ", out * in, ", ", out * in, "], not ", matrices_.scalar_type(), " ",
              matrices_.sizes());
}

at::Tensor DenseOperator::diagonal() const {
  return matrices_.diagonal(0, -2, -1).reshape({matrices_.size(0), out_, in_});
}

at::Tensor DenseOperator::null_part(const at::Tensor& x) const {
  const at::Tensor projector = null_space_projector(matrices_);
  if (!projector.defined()) return {};
  return projector.to(x.dtype()).bmm(x.flatten(1).unsqueeze(2)).view_as(x);
}

void DenseOperator::apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>&) const {
  at::Tensor flat = out.flatten(1).unsqueeze(2);  // [L, out*in, 1], a view
  at::bmm_out(flat, matrices_, x.flatten(1).unsqueeze(2));
}

}  // namespace amalgam
