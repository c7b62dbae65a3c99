#pragma once

#include <ATen/ATen.h>

#include <array>
#include <vector>

#include "solvers/linear/null_space.h"

namespace amalgam {

/// α B X A: one term of a sum of Kronecker products, for a batch of L layers. A factor that is undefined is the
/// identity.
struct KroneckerTerm {
  double weight = 1.0;  ///< α
  at::Tensor output;    ///< B [L, out, out], symmetric positive semi-definite
  at::Tensor input;     ///< A [L, in, in], symmetric positive semi-definite
};

/// L independent symmetric positive semi-definite operators K_l on matrices X_l [out, in]. A solver sees nothing else
/// of a merge method.
class LinearOperator {
 public:
  virtual ~LinearOperator() = default;

  /// L, out, in.
  virtual std::array<int64_t, 3> sizes() const = 0;
  /// The dtype and device that `apply` works in.
  virtual at::TensorOptions options() const = 0;

  /// out = K x. Uses a workspace of its own: one thread at a time.
  /// @param x, out  [L, out, in], contiguous, two different tensors
  /// @throws c10::Error if sizes, dtype or device disagree
  void apply(const at::Tensor& x, at::Tensor& out) const;
  /// The same for some items, in ascending order. What the others of `out` hold afterwards is not said.
  void apply(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const;

  /// The diagonal of K_l as a matrix on vectorised X: [L, out, in].
  virtual at::Tensor diagonal() const = 0;

  /// Kronecker products whose sum is K or, where K is no such sum, is near it: for preconditioners. Empty where none
  /// are known.
  virtual std::vector<KroneckerTerm> kronecker_terms() const;

  /// What all factors of `kronecker_terms` leave unseen; undefined where that is nothing, or not known. Preconditioners
  /// leave it out, so that rounding there is not amplified.
  virtual NullSpace null_space() const;

  /// The part of x [L, out, in] that lies in the null space of K, as far as that is known; undefined where K is known
  /// to be regular or nothing is known.
  virtual at::Tensor null_part(const at::Tensor& x) const;

 protected:
  virtual void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const = 0;
};

/// @throws c10::Error unless `tensor` has the sizes, dtype and device of `op`
void check_operand(const LinearOperator& op, const at::Tensor& tensor, const char* name);

/// The numbers 0 … count − 1.
std::vector<int64_t> all_items(int64_t count);

}  // namespace amalgam
