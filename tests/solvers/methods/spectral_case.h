#pragma once

#include <utility>

#include "solvers/linear/spectrum.h"
#include "solvers/merge_case.h"

namespace amalgam::test {

/// Odd matrices, a vector and a convolution's kernel, which methods of spectra treat apart.
inline void spectral_case(MergeCase& merge_case, const std::vector<std::string>& tasks) {
  merge_case.parameter("tall", {13, 5});
  merge_case.parameter("wide", {4, 9});
  merge_case.parameter("column", {6, 1});
  merge_case.parameter("vector", {7});
  merge_case.parameter("kernel", {5, 2, 3, 3});
  merge_case.draw(tasks);
}

/// α_m d_m of one expert: float64.
inline at::Tensor weighted_change(const MergeCase& merge_case, size_t m, const std::string& name) {
  return merge_case.weights[m] *
         (merge_case.experts[m].at(name).to(at::kDouble) - merge_case.base.at(name).to(at::kDouble));
}

/// Experts whose changes of "p" [24, 18] are one direction u_m v_mᵀ each, of values 1, 2, …, orthogonal to the others',
/// in float32: rounded, so that the changes have full rank.
/// @return Σ u_m v_mᵀ, and the sum of the changes: float64
inline std::pair<at::Tensor, at::Tensor> one_direction_each(MergeCase& merge_case,
                                                            const std::vector<std::string>& tasks) {
  merge_case.parameter("p", {24, 18});
  merge_case.draw(tasks);
  merge_case.store_as(at::kFloat);
  const Spectrum basis = spectrum_of(merge_case.random.normal({24, 18}));
  at::Tensor directions = at::zeros({24, 18}, at::kDouble), sum = at::zeros({24, 18}, at::kDouble);
  for (size_t m = 0; m < tasks.size(); ++m) {
    const auto place = static_cast<int64_t>(m);
    const at::Tensor direction = basis.left.select(1, place).outer(basis.right[place]);
    const at::Tensor change = (1.0 + static_cast<double>(m)) * direction;
    merge_case.experts[m]["p"] = (merge_case.base["p"].to(at::kDouble) + change).to(at::kFloat);
    directions += direction;
    sum += change;
  }
  return {directions, sum};
}

/// θ0 + the mean of the changes by the tasks' weights.
inline at::Tensor mean_of(const MergeCase& merge_case, const std::string& name) {
  at::Tensor sum = at::zeros_like(merge_case.base.at(name), at::kDouble);
  double total = 0.0;
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    sum += weighted_change(merge_case, m, name);
    total += merge_case.weights[m];
  }
  return merge_case.base.at(name).to(at::kDouble) + sum / total;
}

/// U and V of a matrix as columns, by the eigenvectors of A Aᵀ and A = U S Vᵀ: the largest first. For matrices of full
/// rank that are no worse conditioned than 1e4.
struct NaiveSpectrum {
  at::Tensor u, s, v;  // [rows, n], [n], [columns, n]

  explicit NaiveSpectrum(const at::Tensor& a) {
    const bool tall = a.size(0) > a.size(1);
    const auto [squares, vectors] = at::linalg_eigh(tall ? a.t().mm(a) : a.mm(a.t()));
    s = squares.flip(0).clamp_min(0).sqrt();
    const at::Tensor small = vectors.flip(1);
    const at::Tensor other = (tall ? a : a.t()).mm(small) / s;
    u = tall ? other : small;
    v = tall ? small : other;
  }
};

/// (A Aᵀ)^(−1/2) A or A (Aᵀ A)^(−1/2): the polar factor of a matrix of full rank.
inline at::Tensor naive_polar(const at::Tensor& a) {
  const bool tall = a.size(0) > a.size(1);
  const auto [squares, vectors] = at::linalg_eigh(tall ? a.t().mm(a) : a.mm(a.t()));
  const at::Tensor root = (vectors / squares.sqrt()).mm(vectors.t());
  return tall ? a.mm(root) : root.mm(a);
}

inline const std::vector<std::pair<at::ScalarType, double>> kStoredDtypes = {
    {at::kDouble, kEps64}, {at::kFloat, kEps32}, {at::kBFloat16, 0x1p-8}};

}  // namespace amalgam::test
