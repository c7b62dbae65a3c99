#pragma once

#include "solvers/linear/linear_operator.h"

namespace amalgam {

/// K X = D ∘ X, element by element: a diagonal Fisher information.
class DiagonalOperator final : public LinearOperator {
 public:
  /// @param diagonal  D [L, out, in], floating, not negative
  explicit DiagonalOperator(at::Tensor diagonal);

  std::array<int64_t, 3> sizes() const override;
  at::TensorOptions options() const override { return diagonal_.options(); }
  at::Tensor diagonal() const override { return diagonal_; }
  /// The one product of diagonal factors with D's sums by row and by column, which is D where D is a product.
  std::vector<KroneckerTerm> kronecker_terms() const override;
  /// x where D is 0.
  at::Tensor null_part(const at::Tensor& x) const override;

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const override;

 private:
  at::Tensor diagonal_;
};

}  // namespace amalgam
