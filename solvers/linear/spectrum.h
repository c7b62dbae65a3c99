#pragma once

#include <ATen/ATen.h>

namespace amalgam {

/// A = U diag(S) Vᵀ with n = min(rows, columns): the thin singular value decomposition, the largest value first.
struct Spectrum {
  at::Tensor left;    ///< U [rows, n], orthonormal columns
  at::Tensor values;  ///< S [n], falling, not negative
  at::Tensor right;   ///< Vᵀ [n, columns], orthonormal rows

  /// The first `rank` of each.
  Spectrum leading(int64_t rank) const;
  /// The first `most` of each, without those that the matrix does not have: no more than `rank(floor)`.
  Spectrum present(int64_t most, double floor = 0.0) const;
  /// U diag(S) Vᵀ.
  at::Tensor product() const;
  /// How many values are more than `floor` and than what rounding leaves of zero, ε max(rows, columns) times the first;
  /// 0 where a side has no length.
  /// @param floor  what the matrix is known to: that of its values which its elements' errors make
  int64_t rank(double floor = 0.0) const;
  /// U Vᵀ over the first `rank()` directions: the nearest matrix whose singular values are 1, or 0 where the matrix has
  /// nothing. (The other directions are any that LAPACK happens to return.)
  at::Tensor polar() const;
};

/// In float64, whatever the matrix's dtype: methods that raise small singular values give the directions of the
/// smallest as much weight as the others, and float32 leaves these to rounding. The work is about 20 rows columns n
/// multiplications; a tall matrix (an embedding of 30 000 by 384) is reduced to [n, n] by its QR factors first, so that
/// memory beside it is another such matrix. (By the Gram matrix of the small side it would be quicker still, but values
/// below 1e-8 of the first would be lost.)
/// @param matrix  [rows, columns], finite
Spectrum spectrum_of(const at::Tensor& matrix);

}  // namespace amalgam
