#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/options.h"
#include "solvers/linear/linear_operator.h"
#include "solvers/linear/preconditioner.h"

namespace amalgam {

struct CgOptions {
  int64_t iterations = 100;    ///< at most; 0 returns the start
  double tolerance = 1e-5;     ///< stop where ‖b − Kx‖ ≤ tolerance ‖b‖
  double time_limit = 0;       ///< in seconds; 0: none
  int64_t check_every = 0;     ///< iterations between two looks of the host at the device; 0: 1 on a CPU, else 10
  int64_t refresh_every = 50;  ///< iterations after which the residual is computed anew, b − Kx; 0: at the end only
  /// Called every `check_every` iterations; may throw to stop.
  std::function<void(int64_t iteration)> at_check;

  /// Declares `iterations`, `tolerance`, `time_limit` and `check_every`.
  void declare(OptionSet& set);
  /// Those of the declared options that differ from their defaults.
  std::vector<std::string> changed() const;
};

/// How the solve of one item of the batch went.
struct ItemSummary {
  int64_t iterations = 0;
  double residual =
      0.0;  ///< the true ‖b − Kx‖ / ‖b‖ of what is returned; where b is zero, relative to the start's ‖Kx‖
  bool converged = false;
  std::string why;                  ///< "tolerance reached", "iteration limit", "time limit", or what went wrong
  int64_t restarts = 0;             ///< fresh directions taken because the recurrence had lost touch with the truth
  std::optional<double> condition;  ///< estimate for the (preconditioned) operator: solvers/linear/lanczos.h
};

struct Solution {
  at::Tensor x;                    ///< [L, out, in]
  std::vector<ItemSummary> items;  ///< L
  /// float64 [most iterations + 1, L] on the CPU: the recurrence's relative residual at the start and after each of the
  /// item's iterations, and its last value from there on.
  at::Tensor history;
};

/// Solves K x = b for a batch of independent systems by preconditioned conjugate gradients.
///
/// All systems advance together; one that has stopped is frozen and its solution no longer changes, bit for bit.
/// Scalars stay on the device, in float64: the host looks at them every `check_every` iterations only. A direction of
/// no or negative curvature, or a value that is not finite, stops an item before the step is taken, and its summary
/// says so. An item whose residual grows by more than 1/√ε of its dtype has diverged (on a positive operator it grows
/// by √κ at most), and gets its start back.
///
/// What counts is the true residual: it is computed every `refresh_every` iterations and at the end. Where the
/// recurrence has parted from it by a tenth, or two neighbouring directions are no longer conjugate (the operator or
/// the preconditioner is not symmetric in its arithmetic), the item starts again from where it is. An item that reached
/// the tolerance by the recurrence only goes on, for as long as each such round halves the true residual; it has
/// converged only if the true residual of what is returned meets the tolerance.
///
/// @param op       symmetric positive semi-definite, [L, out, in] seen as L operators on out*in unknowns
/// @param rhs      [L, out, in], dtype and device of `op`
/// @param initial  [L, out, in]; its component in the null space of `op` stays: Note [Initialisation]
/// @param preconditioner  null: none
/// @throws c10::Error if sizes, devices or dtypes disagree, or if `rhs` or `initial` holds a value that is not finite
/// @source Hestenes & Stiefel 1952; the use for merging: Tam, Bansal & Raffel 2023 (MaTS), section 4
Solution solve(const LinearOperator& op, const at::Tensor& rhs, const at::Tensor& initial,
               const Preconditioner* preconditioner, const CgOptions& options);

// Note [Initialisation]
// Plain conjugate gradients move within the range of K only: the start's component in the null space of K stays, and
// the answer depends on the start. With a preconditioner P the iterates move within the range of P⁻¹K, so that what
// stays is the P-orthogonal component, which is another one. `solve` then puts the start's part back, x += N(x0 − x)
// with N the operator's `null_part`, so that both kinds of solve agree wherever the operator knows its null space whole
// (a KroneckerSum whose B_m are damped). docs/solvers.md has a worked example. A KroneckerSum with undamped B_m may
// have a larger null space than it knows of; there, a preconditioned and a plain solve may differ in the rest of it.
// The true residual is computed after that.

}  // namespace amalgam
