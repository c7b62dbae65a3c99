#pragma once

#include <optional>

#include "solvers/linear/linear_operator.h"
#include "solvers/linear/null_space.h"

namespace amalgam {

/// K X = Σ_m α_m B_m X A_m for a batch of L layers of one shape: at most two products a term. On row-major flattened X
/// it is the matrix Σ_m α_m kron(B_m, A_m). Terms of different A and B cannot be summed beforehand; terms without B
/// (A ⊗ I, RegMean's) can, and are better given as one.
///
/// Layers that are fed the same tensor have the same A: it may be stored once (`input_of_item`), and the rows of such
/// neighbours then go through one product.
class KroneckerSum final : public LinearOperator {
 public:
  /// B X of this many bytes is held at a time.
  static constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;

  /// Holds the tensors; copies nothing.
  /// @param sizes          L, out, in
  /// @param terms          at least one; the factors of one floating dtype and device
  /// @param options        dtype and device, where no term has a factor
  /// @param input_of_item  where not empty: L indices; every A is then [S, in, in], and item l's is A[input_of_item[l]]
  /// @throws c10::Error if they disagree
  KroneckerSum(std::array<int64_t, 3> sizes, std::vector<KroneckerTerm> terms, at::TensorOptions options,
               std::vector<int64_t> input_of_item = {});
  /// Of terms that have both factors.
  explicit KroneckerSum(std::vector<KroneckerTerm> terms);

  std::array<int64_t, 3> sizes() const override { return sizes_; }
  at::TensorOptions options() const override { return options_; }
  at::Tensor diagonal() const override;
  /// The terms, a factor an item each.
  std::vector<KroneckerTerm> kronecker_terms() const override;

  NullSpace null_space() const override;
  /// x Π_A + Π_B x (I − Π_A), with Π_A and Π_B the projectors on the common null spaces of the A_m and of the B_m (of
  /// those terms that have a say: α_m tr(A_m) tr(B_m) > 0). Where every B_m is damped, Π_B is zero and this is the
  /// whole null space of K. Where none is, K may have a larger null space, with no product structure, and this is a
  /// part of it.
  at::Tensor null_part(const at::Tensor& x) const override;
  /// Says what the projectors are, so that `null_part` need not compute them.
  void set_null_space(NullSpace space) { null_space_ = std::move(space); }

  /// For the tests: B X of at most so many bytes at a time.
  void set_workspace_bytes(int64_t bytes) { workspace_bytes_ = bytes; }

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const override;

 private:
  void check() const;
  void apply_batch(const at::Tensor& x, at::Tensor& out) const;
  void apply_item(const at::Tensor& x, at::Tensor& out, int64_t first, int64_t count) const;
  int64_t input_index(int64_t item) const;
  at::Tensor inputs(const KroneckerTerm& term) const;  // [L, in, in]
  at::Tensor workspace(int64_t elements) const;

  std::array<int64_t, 3> sizes_;
  std::vector<KroneckerTerm> terms_;
  at::TensorOptions options_;
  std::vector<int64_t> input_of_item_;
  int64_t workspace_bytes_ = kWorkspaceBytes;
  mutable at::Tensor workspace_;                 // flat, made on first use
  mutable std::optional<NullSpace> null_space_;  // made on first use
};

/// The trace of each of L matrices: [L, n, n] -> float64 [L].
at::Tensor traces(const at::Tensor& matrices);

}  // namespace amalgam
