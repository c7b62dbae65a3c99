#pragma once

#include "solvers/linear/linear_operator.h"

namespace amalgam {

/// K X = Σ_m α_m B_m X A_m for a batch of L layers of one shape: two batched products a term. Terms of different A and
/// B cannot be summed beforehand. On row-major flattened X it is the matrix Σ_m α_m kron(B_m, A_m).
class KroneckerSum final : public LinearOperator {
 public:
  /// Holds the tensors; copies nothing.
  /// @param terms  at least one, all of the same sizes, floating dtype and device
  /// @throws c10::Error if they disagree
  explicit KroneckerSum(std::vector<KroneckerTerm> terms);

  std::array<int64_t, 3> sizes() const override { return sizes_; }
  at::TensorOptions options() const override { return terms_.front().input.options(); }
  at::Tensor diagonal() const override;
  const std::vector<KroneckerTerm>& kronecker_terms() const override { return terms_; }

  /// x Π_A + Π_B x (I − Π_A), with Π_A and Π_B the projectors on the common null spaces of the A_m and of the B_m (of
  /// those terms that have a say: α_m tr(A_m) tr(B_m) > 0). Where every B_m is damped, Π_B is zero and this is the
  /// whole null space of K. Where none is, K may have a larger null space, with no product structure, and this is a
  /// part of it.
  at::Tensor null_part(const at::Tensor& x) const override;

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out) const override;

 private:
  std::vector<KroneckerTerm> terms_;
  std::array<int64_t, 3> sizes_;
  mutable at::Tensor workspace_;  // [L, out, in], made on first use
};

/// The trace of each of L matrices: [L, n, n] -> float64 [L].
at::Tensor traces(const at::Tensor& matrices);

/// The two factors of the Kronecker product nearest in trace to Σ α B X A, and its scale, all float64:
/// Ā = Σ α tr(B) A [L, in, in], B̄ = Σ α tr(A) B [L, out, out], c = Σ α tr(A) tr(B) [L], so that K X ≈ B̄ X Ā / c and
/// tr(Ā) = tr(B̄) = c.
struct TraceFactors {
  at::Tensor input, output, scale;
};
TraceFactors trace_factors(const std::vector<KroneckerTerm>& terms);

}  // namespace amalgam
