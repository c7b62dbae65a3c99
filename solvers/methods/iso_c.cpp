#include "solvers/methods/iso_c.h"

#include "solvers/linear/spectrum.h"

namespace amalgam {
namespace {

const RegisterMethod<IsoC> registered("iso_c", "the summed changes with all singular values alike",
                                      "Marczak et al. 2025 (Iso-C)");

}  // namespace

at::Tensor IsoC::merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, LayerReport&,
                               const Checkpoint&) const {
  const Spectrum spectrum = spectrum_of(weighted_sum(changes, weights));
  return spectrum.polar().mul_(spectrum.values.mean());
}

}  // namespace amalgam
