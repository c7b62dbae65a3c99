#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "solvers/linear/linear_operator.h"

namespace amalgam {

/// z = P⁻¹ r for a symmetric positive definite P near K.
class Preconditioner {
 public:
  virtual ~Preconditioner() = default;
  /// @param r, z  [L, out, in], the operator's dtype and device, two different tensors
  virtual void apply(const at::Tensor& r, at::Tensor& z) const = 0;
};

/// P X = B̄ X Ā / c of `trace_factors`: exact for one term. It is damped as (Ā + π √γ I) ⊗ (B̄ + √γ/π I), π =
/// sqrt((tr Ā/in) / (tr B̄/out)), γ = ρ² (tr Ā/in)(tr B̄/out): each factor gets ρ times its mean eigenvalue. Factorised
/// in float64, applied in the operator's dtype as P⁻¹ = (U_Bᵀ U_B) ⊗ (U_Aᵀ U_A) with U the inverse Cholesky factors, so
/// that rounding cannot make it indefinite. An item whose operator is zero gets the identity.
/// @source Martens & Grosse 2015 (K-FAC), section 6.3, for the split of the damping
class KroneckerTracePreconditioner final : public Preconditioner {
 public:
  static constexpr double kDamping = 1e-4;  ///< ρ

  /// @param op  must give its `kronecker_terms`
  /// @throws c10::Error if it has none
  explicit KroneckerTracePreconditioner(const LinearOperator& op, double damping = kDamping);
  void apply(const at::Tensor& r, at::Tensor& z) const override;

 private:
  at::Tensor input_;   // U_A [L, in, in], (Ā/c)⁻¹ = U_Aᵀ U_A
  at::Tensor output_;  // U_B [L, out, out]
  mutable at::Tensor workspace_;
};

/// "none", "kronecker_trace".
const std::vector<std::string>& preconditioner_names();
/// Null for "none".
std::unique_ptr<Preconditioner> make_preconditioner(const std::string& name, const LinearOperator& op);

}  // namespace amalgam
