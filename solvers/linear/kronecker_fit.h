#pragma once

#include "solvers/linear/linear_operator.h"
#include "solvers/linear/null_space.h"

namespace amalgam {

/// One Kronecker product B X A a layer, float64.
struct KroneckerPair {
  at::Tensor output;  ///< B [L, out, out]
  at::Tensor input;   ///< A [L, in, in]
};

/// The two factors of the Kronecker product nearest in trace to Σ α B X A, and its scale, all float64:
/// Ā = Σ α tr(B) A [L, in, in], B̄ = Σ α tr(A) B [L, out, out], c = Σ α tr(A) tr(B) [L], so that K X ≈ B̄ X Ā / c and
/// tr(Ā) = tr(B̄) = c. An item whose terms are all zero has c = 0.
struct TraceFactors {
  at::Tensor input, output, scale;
};
/// @param sizes  L, out, in
TraceFactors trace_factors(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes);

/// The projectors on the common null spaces of the A_m and of the B_m of those terms that have a say: eigenvalues of no
/// more than 4 n ε of the largest, which is what rounding leaves of zero in an n × n matrix.
/// @param epsilon  ε of the dtype that the factors were made in
NullSpace null_space_of(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes, double epsilon);

/// B̄ / c and Ā of `trace_factors`; zero where c is.
KroneckerPair trace_fit(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes);

/// Two Kronecker products near the sum: the terms in two parts, each by its trace fit. Of the partitions that any two
/// terms make by drawing the others to the one they are more alike, the nearest in the Frobenius norm; two terms are
/// their own parts, and the fit is exact. Of one term the second product is zero.
std::array<KroneckerPair, 2> two_part_fit(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes);

}  // namespace amalgam
