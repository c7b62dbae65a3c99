#pragma once

#include <cstdint>
#include <vector>

namespace amalgam {

/// The constants of CMA-ES: what its updates weigh and how fast they learn.
struct CmaEsConstants {
  int64_t population = 0;       ///< λ, points a generation
  int64_t parents = 0;          ///< μ, the points of positive weight
  std::vector<double> weights;  ///< w_1 … w_λ, best point first; the positive ones add up to 1, the others are ≤ 0
  double effective = 0.0;       ///< μ_eff = 1 / Σ_{i≤μ} w_i²
  double step_rate = 0.0;       ///< c_σ
  double step_damping = 0.0;    ///< d_σ
  double path_rate = 0.0;       ///< c_c
  double rank_one_rate = 0.0;   ///< c_1
  double rank_mu_rate = 0.0;    ///< c_μ
  double expected_norm = 0.0;   ///< E‖N(0, I)‖ ≈ √n (1 − 1/(4n) + 1/(21n²))
};

/// The defaults of the tutorial, with negative weights (active CMA). With a diagonal covariance, which has n numbers to
/// learn and not n (n + 1) / 2, c_1 and c_μ are (n + 2) / 3 times as large.
/// @param dimensions  n, at least 1
/// @param population  λ, at least 3; 0: 4 + ⌊3 ln n⌋
/// @source Hansen 2016, The CMA Evolution Strategy: A Tutorial (arXiv:1604.00772), table 1; Ros & Hansen 2008, A Simple
/// Modification in CMA-ES Achieving Linear Time and Space Complexity
CmaEsConstants cma_es_constants(int64_t dimensions, int64_t population, bool separable);

}  // namespace amalgam
