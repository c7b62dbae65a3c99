#pragma once

#include <string>
#include <vector>

#include "stats/statistics.h"

namespace amalgam {

struct VerifyOptions {
  /// Of the expert that the statistics should be of (`digest_of` its parameters and buffers); empty: not checked.
  std::string expert_digest;
  /// Of inequalities that rounding may break, in units of float32's epsilon: products run in the model's precision.
  double tolerance = 1024;
};

/// Reads every sum, one at a time, and says what cannot be true of sums over examples. Each finding is a text that
/// names the sum; none: nothing is wrong that the file itself can tell.
///
/// - The digest of the sums is the header's; the expert is the one asked for.
/// - Every value is finite; sums of squares are not negative.
/// - A Gram matrix G is symmetric to the bit, and |G_ij| ≤ √(G_ii G_jj) (Cauchy-Schwarz); what fills up its last block
///   is zero.
/// - The diagonal of a gradient Gram matrix is the squared gradient, where both are there.
/// - (Σ a_i)² ≤ rows · Σ a_i², of inputs and of outputs.
/// - 0 ≤ rows; a reduced row is an example, so there are no more than examples or rows; layers that are fed the same
///   tensor have the same count.
///
/// Squares that float32 cannot hold are lost: each row may lack 1.2e-38 of a sum of squares, and that much is allowed.
/// What `Statistics::load` checks (names, dtypes and shapes) is taken as given.
std::vector<std::string> verify_statistics(const Statistics& statistics, const VerifyOptions& options = {});

}  // namespace amalgam
