#pragma once

#include "solvers/methods/method.h"

namespace amalgam {

// The Kronecker factors of a layer as the solving methods use them, from statistics. All float64, on `device`.

/// Ã = λ A + (1 − λ) diag(A), in place.
/// @param matrices  [..., n, n]
void scale_off_diagonal(at::Tensor& matrices, double lambda);

/// A of one task: [groups, columns, columns]; the bias's component is left out where the layer's matrix has none.
/// @throws InputError if the statistic does not fit the layer or holds a value that is not finite
at::Tensor input_factor(const ExpertInput& expert, const LayerMatrix& layer, at::Device device,
                        KroneckerForm form = KroneckerForm::kExpand);

/// B of one task: [groups, rows, rows].
/// @throws InputError as above
at::Tensor output_factor(const ExpertInput& expert, const LayerMatrix& layer, at::Device device,
                         KroneckerForm form = KroneckerForm::kExpand);

/// Σ F over the layer's parameters, from the squared gradients: [groups].
at::Tensor summed_fisher(const ExpertInput& expert, const LayerMatrix& layer, at::Device device);

}  // namespace amalgam
