#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "solvers/linear/kronecker_fit.h"
#include "solvers/linear/linear_operator.h"

namespace amalgam {

/// z = P⁻¹ r for a symmetric positive definite P near K. Made in float64, applied in the operator's dtype. An item
/// whose operator is zero gets the identity.
class Preconditioner {
 public:
  virtual ~Preconditioner() = default;
  /// @param r, z   [L, out, in], the operator's dtype and device, two different tensors
  /// @param items  those that are asked for, in ascending order; what the others of z hold is not said
  virtual void apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>& items) const = 0;
};

/// P = diag(K), floored at 1e-12 of its mean.
class JacobiPreconditioner final : public Preconditioner {
 public:
  explicit JacobiPreconditioner(const LinearOperator& op);
  void apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>& items) const override;

 private:
  at::Tensor inverse_;  // [L, out, in]
};

/// P X = B X A of one pair of factors, damped as (A + π √γ I) ⊗ (B + √γ/π I), π = sqrt((tr A/in) / (tr B/out)), γ = ρ²
/// (tr A/in)(tr B/out): each factor gets ρ times its mean eigenvalue. What the operator is known not to see is left out
/// of z: the damped inverse is largest there, and would blow rounding up. In float64 it is two products with the
/// inverse factors; in float32 four, P⁻¹ = (U_Bᵀ U_B) ⊗ (U_Aᵀ U_A) with U the inverse Cholesky factors, so that
/// rounding cannot make it indefinite.
/// @source Martens & Grosse 2015 (K-FAC), section 6.3, for the split of the damping
class KroneckerPreconditioner final : public Preconditioner {
 public:
  static constexpr double kDamping = 1e-4;  ///< ρ

  KroneckerPreconditioner(const KroneckerPair& factors, const NullSpace& unseen, at::TensorOptions options,
                          double damping = kDamping);
  void apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>& items) const override;

 private:
  bool squared_;               // inverse factors U, of which P⁻¹ takes UᵀU
  at::Tensor input_, output_;  // [L, in, in], [L, out, out]
  mutable at::Tensor workspace_;
};

/// P X = B₁ X A₁ + B₂ X A₂, inverted in the bases V_B and V_A that make both pairs of factors diagonal:
///   P⁻¹ R = V_B (V_Bᵀ R V_A / D) V_Aᵀ,  D_ij = b₁ᵢ a₁ⱼ + b₂ᵢ a₂ⱼ, floored at ρ times its mean;
/// four products. What lies in neither pair's range is left out of z. Without floor (ρ = 0) it is the pseudo-inverse,
/// which leaves out where D is below 1e-12 of its largest too: of two terms the solution itself.
class TwoTermPreconditioner final : public Preconditioner {
 public:
  static constexpr double kFloor = 1e-6;  ///< ρ

  TwoTermPreconditioner(const std::array<KroneckerPair, 2>& factors, at::TensorOptions options, double floor = kFloor);
  void apply(const at::Tensor& r, at::Tensor& z, const std::vector<int64_t>& items) const override;

 private:
  at::Tensor output_, input_;  // V_B [L, out, out], V_A [L, in, in]
  at::Tensor inverse_;         // 1 / D [L, out, in]
  mutable at::Tensor workspace_;
};

/// "none", "jacobi", "kronecker_trace", "two_term". All but the first two need an operator that
/// gives `kronecker_terms`; docs/solvers.md compares them.
const std::vector<std::string>& preconditioner_names();
/// Null for "none".
/// @throws c10::Error for an unknown name, or an operator that gives no terms
std::unique_ptr<Preconditioner> make_preconditioner(const std::string& name, const LinearOperator& op);

}  // namespace amalgam
