#include "solvers/methods/iso_cts.h"

#include <algorithm>
#include <cmath>

#include "solvers/linear/spectrum.h"

namespace amalgam {
namespace {

const RegisterMethod<IsoCts> registered("iso_cts", "common and task-specific directions with all singular values alike",
                                        "Marczak et al. 2025 (Iso-CTS)");

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
                                 LayerReport&, const Checkpoint&) const {
  const at::Tensor sum = weighted_sum(changes, weights);
  const int64_t n = std::min(sum.size(0), sum.size(1));
  const SpaceShares shares = space_shares(n, std::ssize(changes), common_fraction_);
  const Spectrum common = spectrum_of(sum).leading(shares.common);
  std::vector<at::Tensor> left{common.left}, values{common.values}, right{common.right};
  for (const at::Tensor& change : weighted(changes, weights)) {
    if (shares.own == 0) break;
    const at::Tensor rest = change - common.left.mm(common.left.t().mm(change));
    const Spectrum own = spectrum_of(rest).leading(shares.own);
    left.push_back(own.left);
    values.push_back(own.values);
    right.push_back(own.right);
  }
  return spectrum_of(at::cat(left, 1)).polar().mm(spectrum_of(at::cat(right, 0)).polar()).mul_(at::cat(values).mean());
}

}  // namespace amalgam
