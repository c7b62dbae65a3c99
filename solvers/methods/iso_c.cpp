#include "solvers/methods/iso_c.h"

#include "solvers/linear/spectrum.h"

namespace amalgam {
namespace {

const RegisterMethod<IsoC> registered("iso_c", "the summed changes with all singular values alike",
                                      "Marczak et al. 2025 (Iso-C)");

}  // namespace

at::Tensor IsoC::merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                               double rounding, LayerReport&, const Checkpoint&) const {
  const Spectrum all = spectrum_of(weighted_sum(changes, weights));
  const Spectrum present = all.present(all.values.numel(), rounding * length_of(weights));
  return present.left.mm(present.right).mul_(present.values.sum() / static_cast<double>(all.values.numel()));
}

}  // namespace amalgam
