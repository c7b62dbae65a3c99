#include "solvers/methods/iso_cts.h"

#include <algorithm>
#include <cmath>

#include "solvers/linear/spectrum.h"

namespace amalgam {
namespace {

const RegisterMethod<IsoCts> registered("iso_cts", "common and task-specific directions with all singular values alike",
                                        "Marczak et al. 2025 (Iso-CTS)");

constexpr double kNoRest = 1e-10;  // of a change's norm: what rounding leaves of one within the common directions

/// The first `most` triplets of what is left of a change without its part in the span of `common` [rows, c].
Spectrum rest_of(const at::Tensor& change, const at::Tensor& common, int64_t most, double rounding) {
  const double none = std::max(rounding, kNoRest * change.norm().item<double>());
  return spectrum_of(change - common.mm(common.t().mm(change))).present(most, none);
}

}  // namespace

SpaceShares space_shares(int64_t n, int64_t experts, double fraction) {
  const auto reserved = static_cast<int64_t>(static_cast<double>(n) * fraction);
  const double share = static_cast<double>(n - reserved) / static_cast<double>(experts);
  const int64_t own = std::min(static_cast<int64_t>(std::nearbyint(share)), n / experts);
  return {n - experts * own, own};
}

void IsoCts::declare_options(OptionSet& set) {
  MatrixMethod::declare_options(set);
  set.real("common_fraction", common_fraction_, {0, 1},
           "share of the singular directions that the tasks have in common");
}

at::Tensor IsoCts::merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                                 double rounding, LayerReport&, const Checkpoint&) const {
  const at::Tensor sum = weighted_sum(changes, weights);
  const int64_t n = std::min(sum.size(0), sum.size(1));
  const SpaceShares shares = space_shares(n, std::ssize(changes), common_fraction_);
  const Spectrum common = spectrum_of(sum).present(shares.common, rounding * length_of(weights));
  std::vector<at::Tensor> left{common.left}, values{common.values}, right{common.right};
  const std::vector<at::Tensor> parts = weighted(changes, weights);
  for (size_t m = 0; m < parts.size() && shares.own > 0; ++m) {
    const Spectrum own = rest_of(parts[m], common.left, shares.own, rounding * weights[m]);
    left.push_back(own.left);
    values.push_back(own.values);
    right.push_back(own.right);
  }
  const at::Tensor mean = at::cat(values).sum() / static_cast<double>(n);
  return spectrum_of(at::cat(left, 1)).polar().mm(spectrum_of(at::cat(right, 0)).polar()).mul_(mean);
}

}  // namespace amalgam
