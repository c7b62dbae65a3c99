#pragma once

#include "solvers/linear/linear_operator.h"

namespace amalgam {

/// K as a matrix on X flattened by rows: for small layers and vectors.
class DenseOperator final : public LinearOperator {
 public:
  /// @param matrices  [L, out*in, out*in], floating, symmetric positive semi-definite
  DenseOperator(at::Tensor matrices, int64_t out, int64_t in);

  std::array<int64_t, 3> sizes() const override { return {matrices_.size(0), out_, in_}; }
  at::TensorOptions options() const override { return matrices_.options(); }
  at::Tensor diagonal() const override;
  at::Tensor null_part(const at::Tensor& x) const override;

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const override;

 private:
  at::Tensor matrices_;
  int64_t out_, in_;
};

}  // namespace amalgam
