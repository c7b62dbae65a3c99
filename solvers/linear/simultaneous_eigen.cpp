#include "solvers/linear/simultaneous_eigen.h"

#include "solvers/linear/kronecker_sum.h"

namespace amalgam {
namespace {

constexpr double kRankThreshold = 1e-12;

/// 1 / t, and 0 where t is 0: [L, 1, 1].
at::Tensor inverse_or_zero(const at::Tensor& trace) {
  return at::where(trace > 0, trace.reciprocal(), at::zeros_like(trace)).view({-1, 1, 1});
}

}  // namespace

SimultaneousEigen simultaneous_eigen(const at::Tensor& first, const at::Tensor& second) {
  TORCH_CHECK(first.dim() == 3 && first.size(1) == first.size(2) && first.sizes() == second.sizes(),
              "simultaneous_eigen: two batches [L, n, n], not ", first.sizes(), " and ", second.sizes());
  const at::Tensor one = first.to(at::kDouble), two = second.to(at::kDouble);
  const at::Tensor first_trace = traces(one), second_trace = traces(two);  // [L]
  const at::Tensor scaled = one * inverse_or_zero(first_trace);
  const auto [energy, axes] = at::linalg_eigh(scaled + two * inverse_or_zero(second_trace));  // [L, n], [L, n, n]
  const at::Tensor seen = energy > energy.slice(-1, -1).clamp_min(0.0) * kRankThreshold;
  const at::Tensor factor = at::where(seen, energy.rsqrt(), at::zeros_like(energy));  // NaN and infinity are not taken
  const at::Tensor whiten = axes * factor.unsqueeze(1);                               // [L, n, n]
  // The share that the first has of the whole, in each direction: within [0, 1] but for rounding, and -1 where nothing
  // is seen, so that such directions mix with no other.
  at::Tensor whitened = whiten.transpose(1, 2).bmm(scaled).bmm(whiten);
  whitened.diagonal(0, -2, -1).sub_(seen.logical_not().to(at::kDouble));
  const auto [share, turn] = at::linalg_eigh(whitened);
  const at::Tensor length = share.gt(-0.5).to(at::kDouble);  // [L, n]: 0 where nothing is seen
  const at::Tensor basis = whiten.bmm(turn) * length.unsqueeze(1);
  const at::Tensor of_first = share.clamp(0.0, 1.0) * length;
  const at::Tensor has_second = second_trace.gt(0).to(at::kDouble).view({-1, 1});
  return {basis, of_first * first_trace.view({-1, 1}), (length - of_first) * has_second * second_trace.view({-1, 1})};
}

}  // namespace amalgam
