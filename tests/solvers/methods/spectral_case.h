#pragma once

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
