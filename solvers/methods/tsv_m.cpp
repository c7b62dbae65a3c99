#include "solvers/methods/tsv_m.h"

#include <algorithm>

#include "solvers/linear/spectrum.h"

namespace amalgam {
namespace {

const RegisterMethod<TsvM> registered("tsv_m", "each task's first singular vectors, made orthogonal to the others'",
                                      "Gargiulo et al. 2025 (Task Singular Vectors)");

}  // namespace

at::Tensor TsvM::merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights,
                               double rounding, LayerReport&, const Checkpoint&) const {
  const int64_t n = std::min(changes.front().size(0), changes.front().size(1));
  const int64_t rank = std::max(int64_t{1}, n / std::ssize(changes));
  std::vector<at::Tensor> left, values, right;
  const std::vector<at::Tensor> parts = weighted(changes, weights);
  for (size_t m = 0; m < parts.size(); ++m) {
    const Spectrum own = spectrum_of(parts[m]).present(rank, rounding * weights[m]);
    left.push_back(own.left);
    values.push_back(own.values);
    right.push_back(own.right);
  }
  return Spectrum{spectrum_of(at::cat(left, 1)).polar(), at::cat(values), spectrum_of(at::cat(right, 0)).polar()}
      .product();
}

}  // namespace amalgam
